//! Connection settings by libpq's rules, resolved once from URL, `PG*` variables, service file and password file.

mod authentication;
mod children;
mod conninfo;
mod files;
mod parameters;
#[cfg(test)]
mod tests;
mod tls;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

pub(crate) use authentication::{AuthMethod, AuthRule, ChannelBinding, TargetSession};
pub(crate) use tls::{Roots, SslMode, TlsSettings, TlsVersion};

use self::files::PasswordFile;
use self::parameters::Treatment;
use crate::{Error, Result, SessionSettings};

const DEFAULT_PORT: u16 = 5432;
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Where servers' sockets lie: Debian's place, and PostgreSQL's own.
const SOCKET_FOLDERS: &[&str] = &["/var/run/postgresql", "/run/postgresql", "/tmp"];

/// What is needed to connect. `Debug` and `Display` hold no secret.
#[derive(Clone)]
pub struct ConnectSettings {
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: String,
    pub(crate) database: String,
    pub(crate) application_name: String,
    /// The user's own `options`; they can hold secrets (`-c app.key=…`).
    options: Option<SecretString>,
    pub(crate) tls: TlsSettings,
    pub(crate) channel_binding: ChannelBinding,
    pub(crate) require_auth: Option<AuthRule>,
    pub(crate) target: TargetSession,
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) keepalive: Option<Keepalive>,
    pub(crate) tcp_user_timeout: Option<Duration>,
    /// `load_balance_hosts=random`.
    pub(crate) shuffle: bool,
    ignored: Vec<String>,
    notices: Vec<String>,
}

/// One server that can be tried.
#[derive(Clone)]
pub(crate) struct Host {
    pub(crate) place: Place,
    pub(crate) port: u16,
    pub(crate) password: Option<SecretString>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// The folder of its Unix socket.
    Socket(PathBuf),
    /// A name, an address, or both: then the name is only what its certificate must show.
    Network { name: Option<String>, address: Option<IpAddr> },
}

/// TCP keepalives; what is `None` is the system's default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Keepalive {
    pub(crate) idle: Option<Duration>,
    pub(crate) interval: Option<Duration>,
    pub(crate) count: Option<u32>,
}

impl Host {
    /// `host:port` or the socket's path, for people.
    pub(crate) fn label(&self) -> String {
        match &self.place {
            Place::Socket(folder) => self.socket(folder).display().to_string(),
            Place::Network { name: Some(name), .. } if !name.contains(':') => format!("{name}:{}", self.port),
            Place::Network { name: Some(name), .. } => format!("[{name}]:{}", self.port),
            Place::Network { address: Some(IpAddr::V6(address)), .. } => format!("[{address}]:{}", self.port),
            Place::Network { address, .. } => {
                format!("{}:{}", address.map(|address| address.to_string()).unwrap_or_default(), self.port)
            }
        }
    }

    pub(crate) fn socket(&self, folder: &Path) -> PathBuf {
        folder.join(format!(".s.PGSQL.{}", self.port))
    }

    /// What a password file can call it, best first.
    pub(crate) fn pgpass_names(&self) -> Vec<String> {
        match &self.place {
            Place::Socket(folder) => {
                let path = folder.display().to_string();
                if SOCKET_FOLDERS.contains(&path.as_str()) { vec!["localhost".to_owned(), path] } else { vec![path] }
            }
            Place::Network { name: Some(name), .. } => vec![name.clone()],
            Place::Network { address, .. } => vec![address.map(|address| address.to_string()).unwrap_or_default()],
        }
    }
}

/// A parameter's value and where it came from, for messages.
struct Value {
    text: String,
    origin: String,
}

/// What was collected, by libpq's parameter names. An empty value is none, as in libpq.
#[derive(Default)]
pub(crate) struct Values(BTreeMap<&'static str, Value>);

impl Values {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// How a message calls the parameter: its own name, or the variable that gave it.
    fn origin(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| name.to_owned(), |value| value.origin.clone())
    }

    /// One of the words that are allowed; a message lists them.
    fn choice<T: Copy>(&self, name: &str, allowed: &[(&str, T)]) -> Result<Option<T>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let found = allowed.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        found.map(Some).ok_or_else(|| {
            let words: Vec<_> = allowed.iter().map(|(word, _)| *word).collect();
            Error::setting(self.origin(name), format!("must be one of {}", words.join(", ")))
        })
    }

    fn number(&self, name: &str) -> Result<Option<i64>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        text.trim().parse().map(Some).map_err(|_| Error::setting(self.origin(name), "is not a whole number"))
    }

    /// Takes one parameter, unless it is there already.
    fn take(&mut self, parameter: &'static parameters::Parameter, text: String, origin: String) -> Result<()> {
        match parameter.treatment {
            Treatment::Used => {
                self.0.entry(parameter.name).or_insert(Value { text, origin });
                Ok(())
            }
            Treatment::Harmless => Ok(()),
            Treatment::Only(allowed, _) if allowed.contains(&text.as_str()) => Ok(()),
            Treatment::Refused(_) if text.is_empty() => Ok(()),
            Treatment::Only(_, why) | Treatment::Refused(why) => Err(Error::setting(origin, why)),
        }
    }
}

impl ConnectSettings {
    /// Parses a `postgresql://` URL or a key=value string by libpq's rules. What it leaves out comes from a service file, then from
    /// the `PG*` variables in `environment` (the library reads none itself), then from the password file; files are looked for in
    /// `home`. Without any user, `LOGNAME` or `USER` in `environment` is taken; without any database, the user's name.
    ///
    /// Parameters that libpq does not know are refused, those that only ORMs know are left out and listed by
    /// [`Self::ignored`], and what libpq knows but we do not support is refused with its reason. Reads files, so it can block
    /// for a moment.
    #[expect(clippy::needless_pass_by_value, reason = "callers make the path for this call")]
    pub fn parse(conninfo: &str, environment: &BTreeMap<String, String>, home: Option<PathBuf>) -> Result<Self> {
        Self::parse_all(conninfo, environment, home.as_ref()).map_err(|error| {
            if conninfo::has_stray_at(conninfo) {
                // The pieces that the error would name may be pieces of the password.
                Error::setting("string", "cannot be understood; characters such as @ / ? % : & in a password must be percent-encoded (%40 %2F %3F %25 %3A %26)")
            } else {
                error
            }
        })
    }

    fn parse_all(conninfo: &str, environment: &BTreeMap<String, String>, home: Option<&PathBuf>) -> Result<Self> {
        let variable = |name: &str| environment.get(name).filter(|value| !value.is_empty()).cloned();
        let mut ignored = Vec::new();
        let mut notices = Vec::new();
        let mut values = Values::default();

        // A later parameter of the same name replaces an earlier one.
        for (name, text) in conninfo::parse(conninfo)?.into_iter().rev() {
            match parameters::find(&name) {
                Some(parameter) => values.take(parameter, text, name)?,
                None if parameters::is_orm_only(&name) => ignored.push(name),
                None => {
                    return Err(Error::UnknownParameter { suggestion: parameters::suggestion(&name), parameter: name });
                }
            }
        }
        ignored.reverse();

        if let Some(service) = values.get("service").map(str::to_owned).or_else(|| variable("PGSERVICE")) {
            let own = values.get("servicefile").map(str::to_owned).or_else(|| variable("PGSERVICEFILE"));
            let own = own.map(PathBuf::from).or_else(|| home.map(|home| home.join(".pg_service.conf")));
            let system = variable("PGSYSCONFDIR").unwrap_or_else(|| "/etc/postgresql-common".to_owned());
            let files: Vec<_> = own.into_iter().chain([Path::new(&system).join("pg_service.conf")]).collect();
            for (name, text) in files::read_service(&service, &files)? {
                let Some(parameter) = parameters::find(&name) else {
                    return Err(Error::UnknownParameter { suggestion: parameters::suggestion(&name), parameter: name });
                };
                values.take(parameter, text, format!("{name} (service {service})"))?;
            }
        }
        for parameter in parameters::PARAMETERS {
            if let Some((name, text)) = parameter.variable.and_then(|name| Some((name, variable(name)?))) {
                values.take(parameter, text, name.to_owned())?;
            }
        }
        Self::resolve(&values, environment, home, ignored, &mut notices)
    }

    fn resolve(
        values: &Values,
        environment: &BTreeMap<String, String>,
        home: Option<&PathBuf>,
        ignored: Vec<String>,
        notices: &mut Vec<String>,
    ) -> Result<Self> {
        let account =
            || ["LOGNAME", "USER"].iter().find_map(|name| environment.get(*name)).filter(|name| !name.is_empty());
        let user = match values.get("user") {
            Some(user) => user.to_owned(),
            None => {
                account().cloned().ok_or_else(|| Error::setting("user", "is not given, neither there nor by PGUSER"))?
            }
        };
        let database = values.get("dbname").unwrap_or(&user).to_owned();
        let mut hosts = hosts(values)?;
        if let Some(password) = values.get("password") {
            for host in &mut hosts {
                host.password = Some(password.into());
            }
        } else {
            let file = values.get("passfile").map(PathBuf::from).or_else(|| home.map(|home| home.join(".pgpass")));
            let file = file.map(|path| PasswordFile::read(&path, notices)).transpose()?.unwrap_or_default();
            for host in &mut hosts {
                let names = host.pgpass_names();
                let names: Vec<_> = names.iter().map(String::as_str).collect();
                host.password = file.find(&names, host.port, &database, &user);
            }
        }
        let tls = TlsSettings::resolve(values, home)?;
        if tls.mode == SslMode::VerifyFull
            && hosts.iter().any(|host| matches!(host.place, Place::Network { name: None, .. }))
        {
            return Err(Error::setting(
                "host",
                "must be given beside hostaddr: sslmode=verify-full compares it with the certificate",
            ));
        }
        if values.get("client_encoding").is_some() {
            notices.push("client_encoding has no effect: the database's own encoding is used".to_owned());
        }
        let connect_timeout = match values.number("connect_timeout")? {
            None => Some(DEFAULT_CONNECT_TIMEOUT),
            Some(seconds) => u64::try_from(seconds).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs),
        };
        let positive = |name: &str| -> Result<Option<u32>> {
            Ok(values.number(name)?.and_then(|number| u32::try_from(number).ok()).filter(|number| *number > 0))
        };
        let seconds = |name: &str| -> Result<Option<Duration>> {
            Ok(positive(name)?.map(|number| Duration::from_secs(number.into())))
        };
        let keepalive = Keepalive {
            idle: seconds("keepalives_idle")?,
            interval: seconds("keepalives_interval")?,
            count: positive("keepalives_count")?,
        };
        Ok(Self {
            hosts,
            user,
            database,
            application_name: values.get("application_name").unwrap_or("pgkeep").to_owned(),
            options: values.get("options").map(Into::into),
            tls,
            channel_binding: ChannelBinding::resolve(values)?,
            require_auth: AuthRule::resolve(values)?,
            target: TargetSession::resolve(values)?,
            connect_timeout,
            keepalive: (values.number("keepalives")? != Some(0)).then_some(keepalive),
            tcp_user_timeout: positive("tcp_user_timeout")?.map(|number| Duration::from_millis(number.into())),
            shuffle: values.choice("load_balance_hosts", &[("disable", false), ("random", true)])?.unwrap_or(false),
            ignored,
            notices: std::mem::take(notices),
        })
    }

    /// The database's name.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// `host:port` or the socket's path, for people; several servers separated by commas.
    pub fn server(&self) -> String {
        self.hosts.iter().map(Host::label).collect::<Vec<_>>().join(",")
    }

    /// The user's name.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Whether a password is known.
    pub fn has_password(&self) -> bool {
        self.hosts.iter().any(|host| host.password.is_some())
    }

    /// The same server, user and secrets, another database.
    pub fn with_database(&self, database: &str) -> Self {
        Self { database: database.to_owned(), ..self.clone() }
    }

    /// The same, with another password.
    #[expect(clippy::needless_pass_by_value, reason = "a secret is handed over, not shown")]
    pub fn with_password(&self, password: SecretString) -> Self {
        let mut changed = self.clone();
        for host in &mut changed.hosts {
            host.password = Some(password.clone());
        }
        changed
    }

    /// The same, as another user with another password.
    #[expect(clippy::needless_pass_by_value, reason = "a secret is handed over, not shown")]
    pub fn with_user(&self, user: &str, password: Option<SecretString>) -> Self {
        let mut changed = Self { user: user.to_owned(), ..self.clone() };
        for host in &mut changed.hosts {
            host.password.clone_from(&password);
        }
        changed
    }

    /// The same, shown in `pg_stat_activity` by this name.
    pub fn with_application_name(&self, name: &str) -> Self {
        Self { application_name: name.to_owned(), ..self.clone() }
    }

    /// Parameters that were left out because only ORMs know them.
    pub fn ignored(&self) -> &[String] {
        &self.ignored
    }

    /// What the user should know: a password file that others can read, a parameter without effect.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Pinned to one host, and there to one address.
    pub(crate) fn pinned(&self, host: &Host, address: Option<IpAddr>) -> Self {
        let mut host = host.clone();
        if let Place::Network { address: pinned, .. } = &mut host.place {
            *pinned = address.or(*pinned);
        }
        Self { hosts: vec![host], ..self.clone() }
    }

    /// The startup packet's `options`: the user's own, then ours, which win.
    pub(crate) fn startup_options(&self, session: SessionSettings) -> String {
        match &self.options {
            Some(own) => format!("{} {}", own.expose_secret().trim(), session.options()),
            None => session.options(),
        }
    }
}

/// The servers to try, from `host`, `hostaddr` and `port`.
fn hosts(values: &Values) -> Result<Vec<Host>> {
    let list = |name: &str| values.get(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let (names, addresses) = (list("host"), list("hostaddr"));
    let count = names.as_ref().or(addresses.as_ref()).map_or(1, Vec::len);
    if addresses.as_ref().is_some_and(|addresses| addresses.len() != count) {
        return Err(Error::setting(values.origin("hostaddr"), "does not have as many entries as host"));
    }
    let ports = list("port").unwrap_or_default();
    if ports.len() > 1 && ports.len() != count {
        return Err(Error::setting(
            values.origin("port"),
            "does not have as many entries as host; one for all would do",
        ));
    }
    (0..count)
        .map(|index| {
            let port = match ports.get(index).or(ports.last()) {
                None | Some(&"") => DEFAULT_PORT,
                Some(text) => text
                    .parse()
                    .ok()
                    .filter(|port| *port > 0)
                    .ok_or_else(|| Error::setting(values.origin("port"), "is not a number from 1 to 65535"))?,
            };
            let name = names.as_ref().map_or("", |names| names[index]);
            let address = match addresses.as_ref().map_or("", |addresses| addresses[index]) {
                "" => None,
                text => {
                    Some(text.parse().map_err(|_| Error::setting(values.origin("hostaddr"), "is not an IP address"))?)
                }
            };
            let place = if name.starts_with('@') {
                return Err(Error::setting(values.origin("host"), "is an abstract socket, which is not supported"));
            } else if name.contains('@') {
                return Err(Error::setting(
                    values.origin("host"),
                    "holds an `@`; in a password it must be written %40",
                ));
            } else if name.starts_with('/') && address.is_none() {
                Place::Socket(PathBuf::from(name))
            } else if name.is_empty() && address.is_none() {
                Place::Socket(default_socket_folder(port))
            } else {
                Place::Network { name: (!name.is_empty()).then(|| name.to_owned()), address }
            };
            Ok(Host { place, port, password: None })
        })
        .collect()
}

fn default_socket_folder(port: u16) -> PathBuf {
    let folders = || SOCKET_FOLDERS.iter().map(Path::new);
    let folder = folders()
        .find(|folder| folder.join(format!(".s.PGSQL.{port}")).exists())
        .or_else(|| folders().find(|folder| folder.is_dir()))
        .unwrap_or(Path::new("/tmp"));
    folder.to_owned()
}

impl fmt::Display for ConnectSettings {
    /// `postgresql://user@host:port/database`, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgresql://{}@{}/{}", self.user, self.server(), self.database)
    }
}

impl fmt::Debug for ConnectSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectSettings")
            .field("server", &self.server())
            .field("user", &self.user)
            .field("database", &self.database)
            .field("password", &if self.has_password() { "***" } else { "none" })
            .field("application_name", &self.application_name)
            .field("options", &self.options.as_ref().map(|_| "***"))
            .field("tls", &self.tls)
            .field("channel_binding", &self.channel_binding)
            .field("require_auth", &self.require_auth)
            .field("target", &self.target)
            .field("connect_timeout", &self.connect_timeout)
            .field("ignored", &self.ignored)
            .field("notices", &self.notices)
            .finish_non_exhaustive()
    }
}
