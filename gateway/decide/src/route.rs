//! Which route takes a path.

use std::cmp::{Ordering, Reverse};

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

    /// The order that [`find`] needs: exact patterns first, then the longest prefix first.
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

/// The route that takes the path: with the routes sorted by [`Pattern::precedence`], the first whose pattern does.
/// `pattern` reads a route's pattern out of it.
pub fn find<'r, R>(routes: &'r [R], path: &str, pattern: impl Fn(&R) -> Pattern<'_>) -> Option<&'r R> {
    routes.iter().find(|route| pattern(route).takes(path))
}

#[cfg(test)]
mod tests {
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
            prop_assert_eq!(find(&routes, &path, pattern).cloned(), expected);
        }
    }
}
