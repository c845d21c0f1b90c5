//! How the server may authenticate us, and what it must be.

use std::fmt;

use super::Values;
use crate::{Error, Result};

/// `channel_binding`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChannelBinding {
    Disable,
    Prefer,
    Require,
}

impl ChannelBinding {
    pub(super) fn resolve(values: &Values) -> Result<Self> {
        let words = [("disable", Self::Disable), ("prefer", Self::Prefer), ("require", Self::Require)];
        Ok(values.choice("channel_binding", &words)?.unwrap_or(Self::Prefer))
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
        }
    }
}

/// `target_session_attrs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TargetSession {
    Any,
    ReadWrite,
    ReadOnly,
    Primary,
    Standby,
    PreferStandby,
}

impl TargetSession {
    pub(super) fn resolve(values: &Values) -> Result<Self> {
        let all = [Self::Any, Self::ReadWrite, Self::ReadOnly, Self::Primary, Self::Standby, Self::PreferStandby];
        let words = all.map(|target| (target.as_str(), target));
        Ok(values.choice("target_session_attrs", &words)?.unwrap_or(Self::Any))
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::ReadWrite => "read-write",
            Self::ReadOnly => "read-only",
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::PreferStandby => "prefer-standby",
        }
    }
}

/// A way in which a server can ask who we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthMethod {
    Password,
    Md5,
    Gss,
    Sspi,
    Scram,
    Oauth,
    /// It does not ask.
    None,
}

const METHODS: &[(&str, AuthMethod)] = &[
    ("password", AuthMethod::Password),
    ("md5", AuthMethod::Md5),
    ("gss", AuthMethod::Gss),
    ("sspi", AuthMethod::Sspi),
    ("scram-sha-256", AuthMethod::Scram),
    ("oauth", AuthMethod::Oauth),
    ("none", AuthMethod::None),
];

impl AuthMethod {
    pub(crate) fn as_str(self) -> &'static str {
        METHODS.iter().find(|(_, method)| *method == self).map_or("", |(name, _)| name)
    }
}

/// `require_auth`: the methods that are allowed, or (with `!`) those that are not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthRule {
    methods: Vec<AuthMethod>,
    negated: bool,
}

impl AuthRule {
    pub(super) fn resolve(values: &Values) -> Result<Option<Self>> {
        let Some(text) = values.get("require_auth") else { return Ok(None) };
        let wrong = |problem: &str| Error::setting(values.origin("require_auth"), problem);
        let negated = text.starts_with('!');
        let mut methods = Vec::new();
        for word in text.split(',').map(str::trim) {
            if word.starts_with('!') != negated {
                return Err(wrong("mixes methods with and without `!`"));
            }
            let word = word.strip_prefix('!').unwrap_or(word);
            let Some((_, method)) = METHODS.iter().find(|(name, _)| *name == word) else {
                let names: Vec<_> = METHODS.iter().map(|(name, _)| *name).collect();
                return Err(wrong(&format!("lists a method that is none of {}", names.join(", "))));
            };
            methods.push(*method);
        }
        Ok(Some(Self { methods, negated }))
    }

    pub(crate) fn allows(&self, method: AuthMethod) -> bool {
        self.methods.contains(&method) != self.negated
    }
}

impl fmt::Display for AuthRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.negated { "!" } else { "" };
        let words: Vec<_> = self.methods.iter().map(|method| format!("{sign}{}", method.as_str())).collect();
        f.write_str(&words.join(","))
    }
}
