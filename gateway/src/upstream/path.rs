//! What is asked for, as it goes out.

use std::ops::Deref;

use decide::target::Target;
use http::Uri;
use http::uri::{InvalidUri, PathAndQuery};

/// The normalised path, and the query as it came. Where the path came so, it shares the memory of its head.
#[derive(Debug)]
pub enum Path {
    /// As it came.
    Came(PathAndQuery),
    /// Written anew.
    Made(String),
}

impl Path {
    /// The target in its normal form, of a request that came with this.
    pub fn new(normal: &Target<'_>, came: &Uri) -> Self {
        match came.path_and_query() {
            Some(came) if came.as_str() == normal.as_str() => Path::Came(came.clone()),
            _ => Path::Made(normal.as_str().to_owned()),
        }
    }

    /// As a part of a URI.
    ///
    /// # Errors
    /// When it is no such part, although it is a target in HTTP/1.
    pub fn to_uri(&self) -> Result<PathAndQuery, InvalidUri> {
        match self {
            Path::Came(path) => Ok(path.clone()),
            Path::Made(path) => PathAndQuery::try_from(path.as_str()),
        }
    }
}

impl Deref for Path {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Path::Came(path) => path.as_str(),
            Path::Made(path) => path,
        }
    }
}

impl From<&str> for Path {
    fn from(path: &str) -> Self {
        Path::Made(path.to_owned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_what_was_normal_goes_on_as_it_came() {
        for (came, went) in [("/a?b", "/a?b"), ("/x/../a?b", "/a?b"), ("/", "/")] {
            let path = Path::new(&Target::parse(came.as_bytes()).unwrap(), &came.parse().unwrap());
            assert_eq!((&*path, path.to_uri().unwrap().as_str()), (went, went));
            assert_eq!(matches!(path, Path::Came(_)), came == went);
        }
    }
}
