//! Which route takes a path.

use std::cmp::{Ordering, Reverse};
use std::collections::HashMap;

/// So many routes are looked at one by one; more are indexed.
const FEW: usize = 16;

/// Which paths a route takes. The path must be normalised ([`target`](crate::target)), and so must the pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pattern<'a> {
    /// This path only.
    Exact(&'a str),
    /// This path and all below it, in whole segments: `/api` takes `/api` and `/api/x`, not `/apix`. A slash at its end
    /// makes no difference, and `/` takes everything.
    Prefix(&'a str),
}

impl Pattern<'_> {
    /// Whether it takes the path.
    pub fn takes(self, path: &str) -> bool {
        match self {
            Pattern::Exact(exact) => path == exact,
            Pattern::Prefix(prefix) => {
                let below = path.strip_prefix(trimmed(prefix));
                below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
            }
        }
    }

    /// The order that [`Routes`] need: exact patterns first, then the longest prefix first.
    pub fn precedence(self, other: Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }

    fn rank(self) -> (bool, Reverse<usize>) {
        match self {
            Pattern::Exact(_) => (false, Reverse(0)),
            Pattern::Prefix(prefix) => (true, Reverse(trimmed(prefix).len())),
        }
    }
}

fn trimmed(prefix: &str) -> &str {
    prefix.strip_suffix('/').unwrap_or(prefix)
}

/// Routes, of which the one that takes a path is found in the same time, however many they are.
#[derive(Debug)]
pub struct Routes<R> {
    /// In their order.
    all: Vec<R>,
    index: Option<Index>,
}

impl<R> Routes<R> {
    /// Of routes sorted by [`Pattern::precedence`]. `pattern` reads a route's pattern out of it.
    pub fn new(all: Vec<R>, pattern: impl Fn(&R) -> Pattern<'_>) -> Self {
        let index = (all.len() > FEW).then(|| Index::new(all.iter().map(pattern)));
        Routes { all, index }
    }

    /// The route that takes the path: the first whose pattern does.
    pub fn find(&self, path: &str, pattern: impl Fn(&R) -> Pattern<'_>) -> Option<&R> {
        match &self.index {
            Some(index) => self.all.get(index.find(path)?),
            None => find(&self.all, path, pattern),
        }
    }

    /// All of them, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, R> {
        self.all.iter()
    }

    /// The last of them, which takes what no other does.
    pub fn last(&self) -> Option<&R> {
        self.all.last()
    }
}

fn find<'r, R>(routes: &'r [R], path: &str, pattern: impl Fn(&R) -> Pattern<'_>) -> Option<&'r R> {
    routes.iter().find(|route| pattern(route).takes(path))
}

/// The places of routes in their list, by what they take.
#[derive(Debug, Default)]
struct Index {
    exact: HashMap<Box<str>, usize>,
    /// Without the slash at their end.
    prefixes: HashMap<Box<str>, usize>,
    /// The longest prefix's length: what is longer in a path, and a client may make that long, is not looked for.
    longest: usize,
}

impl Index {
    fn new<'a>(patterns: impl Iterator<Item = Pattern<'a>>) -> Self {
        let mut index = Index::default();
        for (place, pattern) in patterns.enumerate() {
            let (map, text) = match pattern {
                Pattern::Exact(path) => (&mut index.exact, path),
                Pattern::Prefix(prefix) => (&mut index.prefixes, trimmed(prefix)),
            };
            // Of two for the same the first counts.
            map.entry(text.into()).or_insert(place);
        }
        index.longest = index.prefixes.keys().map(|prefix| prefix.len()).max().unwrap_or(0);
        index
    }

    /// Looks for the path itself, and then for all that it stands below, the longest first.
    fn find(&self, path: &str) -> Option<usize> {
        if let Some(place) = self.exact.get(path) {
            return Some(*place);
        }
        let above = path.rmatch_indices('/').map(|(end, _)| path.get(..end).unwrap_or_default());
        let mut prefixes = [path].into_iter().chain(above).filter(|prefix| prefix.len() <= self.longest);
        prefixes.find_map(|prefix| self.prefixes.get(prefix)).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]
    use super::*;
    use proptest::prelude::*;

    /// Owned, with its place in the list as it was written.
    type Written = (bool, String, usize);

    fn pattern(route: &Written) -> Pattern<'_> {
        if route.0 { Pattern::Exact(&route.1) } else { Pattern::Prefix(&route.1) }
    }

    fn segments(path: &str) -> Vec<&str> {
        path.trim_end_matches('/').split('/').skip(1).collect()
    }

    /// Looks at all routes, and compares prefixes segment by segment.
    fn naive<'r>(routes: &'r [Written], path: &str) -> Option<&'r Written> {
        let exact = routes.iter().find(|(exact, text, _)| *exact && text == path);
        let prefixes = routes.iter().filter(|(exact, text, _)| !exact && segments(path).starts_with(&segments(text)));
        exact.or_else(|| prefixes.rev().max_by_key(|(_, text, _)| segments(text).len()))
    }

    #[test]
    fn prefixes_take_whole_segments() {
        let takes = |prefix, path| Pattern::Prefix(prefix).takes(path);
        assert!(takes("/api", "/api") && takes("/api", "/api/") && takes("/api", "/api/x") && takes("/api/", "/api"));
        assert!(!takes("/api", "/apix") && !takes("/api", "/ap") && !takes("/api", "/"));
        assert!(takes("/", "/") && takes("/", "/x/y"));
    }

    proptest! {
        #[test]
        fn find_agrees_with_a_naive_search(
            texts in prop::collection::vec((any::<bool>(), "(/[ab]{1,2}){0,3}/?"), 0..12),
            path in "(/[ab]{1,2}){0,4}/?",
        ) {
            let rooted = |text: &str| if text.is_empty() { "/".to_owned() } else { text.to_owned() };
            let mut routes: Vec<Written> =
                texts.iter().enumerate().map(|(place, (exact, text))| (*exact, rooted(text), place)).collect();
            let path = rooted(&path);
            let expected = naive(&routes, &path).cloned();
            routes.sort_by(|a, b| pattern(a).precedence(pattern(b)));
            prop_assert_eq!(find(&routes, &path, pattern).cloned(), expected.clone());
            let indexed = Index::new(routes.iter().map(pattern)).find(&path).map(|place| routes[place].clone());
            prop_assert_eq!(indexed, expected.clone());
            // The same with so many others that they are indexed.
            let others = (0..=FEW).map(|n| (n % 2 == 0, format!("/other/{n}"), n));
            routes.extend(others);
            routes.sort_by(|a, b| pattern(a).precedence(pattern(b)));
            prop_assert_eq!(Routes::new(routes, pattern).find(&path, pattern).cloned(), expected);
        }
    }
}
