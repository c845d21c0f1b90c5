//! Where a store is, for people.

use std::fmt;

/// Where a store is: a URL for people (`s3://bucket/prefix`, `file:///dir`), without any secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location(String);

impl Location {
    /// A location from a URL. User, password, query and fragment are left out: tokens hide there.
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        let Some((scheme, rest)) = text.split_once("://") else { return Self(text) };
        if scheme == "file" {
            return Self(text);
        }
        let rest = rest.split(['?', '#']).next().unwrap_or_default();
        let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        Self(format!("{scheme}://{host}{}", path.trim_end_matches('/')))
    }

    /// The location's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("s3://bucket/a/b", "s3://bucket/a/b")]
    #[case("s3://bucket/", "s3://bucket")]
    #[case("s3://key:secret@bucket/a", "s3://bucket/a")]
    #[case("az://container/a?sv=1&sig=secret", "az://container/a")]
    #[case("az://container?sig=se/cr@et", "az://container")]
    #[case("file:///srv/a?b", "file:///srv/a?b")]
    #[case("memory", "memory")]
    fn holds_no_secret(#[case] text: &str, #[case] shown: &str) {
        assert_eq!(Location::new(text).to_string(), shown);
    }
}
