//! The same settings for children that use libpq: variables, and a private file for the secret.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use secrecy::ExposeSecret;

use super::files::escape;
use super::tls::{Roots, SslMode};
use super::{ConnectSettings, Place};
use crate::{Error, Result, SessionSettings};

/// Where distributions keep the system's certificate authorities as one file; `sslrootcert=system` is only known to
/// libpq 16 and later.
const SYSTEM_ROOTS: &[&str] = &[
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl ConnectSettings {
    /// What a child that uses libpq (`pg_dump`, `pg_restore`, `pg_dumpall`) needs in its environment to reach the same
    /// server with the same session settings (`PGOPTIONS`, `PGTZ`, `PGDATESTYLE`).
    ///
    /// The password goes only into `private_dir/pgpass`, a file of mode 0600 that is created anew (`PGPASSFILE` names it).
    /// Every other `PG*` variable must be removed from the child's environment. Use the settings of
    /// [`Connection::resolved`](crate::Connection::resolved), so that all children reach the very same server.
    ///
    /// Fails if the file cannot be written, or if the password holds a line break, which libpq's file cannot hold.
    pub fn libpq_environment(&self, session: SessionSettings, private_dir: &Path) -> Result<Vec<(String, String)>> {
        let password_file = private_dir.join("pgpass");
        self.write_password_file(&password_file)?;

        let mut variables: Vec<(String, String)> = Vec::new();
        let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
        let list = |field: fn(&super::Host) -> String| self.hosts.iter().map(field).collect::<Vec<_>>().join(",");
        set(
            "PGHOST",
            list(|host| match &host.place {
                Place::Socket(folder) => folder.display().to_string(),
                Place::Network { name: Some(name), .. } => name.clone(),
                Place::Network { address, .. } => address.map(|address| address.to_string()).unwrap_or_default(),
            }),
        );
        if self.hosts.iter().any(|host| matches!(host.place, Place::Network { address: Some(_), .. })) {
            set(
                "PGHOSTADDR",
                list(|host| match &host.place {
                    Place::Network { address: Some(address), .. } => address.to_string(),
                    _ => String::new(),
                }),
            );
        }
        set("PGPORT", list(|host| host.port.to_string()));
        set("PGUSER", self.user.clone());
        set("PGDATABASE", self.database.clone());
        set("PGPASSFILE", password_file.display().to_string());
        set("PGAPPNAME", self.application_name.clone());
        set("PGOPTIONS", self.startup_options(session));
        set("PGTZ", "UTC".to_owned());
        set("PGDATESTYLE", "ISO".to_owned());
        if let Some(timeout) = self.connect_timeout {
            set("PGCONNECT_TIMEOUT", timeout.as_secs().max(1).to_string());
        }
        set("PGTARGETSESSIONATTRS", self.target.as_str().to_owned());
        set("PGCHANNELBINDING", self.channel_binding.as_str().to_owned());
        if let Some(rule) = &self.require_auth {
            set("PGREQUIREAUTH", rule.to_string());
        }
        set("PGGSSENCMODE", "disable".to_owned());
        self.set_tls_variables(&mut set);
        Ok(variables)
    }

    fn set_tls_variables(&self, set: &mut impl FnMut(&str, String)) {
        set("PGSSLMODE", self.tls.mode.as_str().to_owned());
        if self.tls.mode == SslMode::Disable {
            return;
        }
        match &self.tls.roots {
            Roots::None => {}
            Roots::File(path) => set("PGSSLROOTCERT", path.display().to_string()),
            Roots::System => {
                let file = SYSTEM_ROOTS.iter().find(|path| Path::new(path).exists());
                set("PGSSLROOTCERT", file.unwrap_or(&"system").to_string());
            }
        }
        if let Some((certificate, key)) = &self.tls.certificate {
            set("PGSSLCERT", certificate.display().to_string());
            set("PGSSLKEY", key.display().to_string());
        }
        if let Some(path) = &self.tls.revoked {
            set("PGSSLCRL", path.display().to_string());
        }
        if self.tls.direct {
            set("PGSSLNEGOTIATION", "direct".to_owned());
        }
        set("PGSSLSNI", u8::from(self.tls.name_indication).to_string());
        set("PGSSLMINPROTOCOLVERSION", self.tls.minimum.as_str().to_owned());
        if let Some(maximum) = self.tls.maximum {
            set("PGSSLMAXPROTOCOLVERSION", maximum.as_str().to_owned());
        }
    }

    /// Written even without a password: libpq would look elsewhere, and complain of what is not a plain file.
    fn write_password_file(&self, path: &Path) -> Result<()> {
        let mut text = String::new();
        for host in &self.hosts {
            let Some(password) = &host.password else { continue };
            let password = password.expose_secret();
            if password.contains(['\n', '\r']) {
                return Err(Error::setting("password", "holds a line break, which libpq's password file cannot hold"));
            }
            let name = if self.hosts.len() == 1 { "*".to_owned() } else { escape(&host.pgpass_names()[0]) };
            let _ = writeln!(text, "{name}:{}:*:*:{}", host.port, escape(password));
        }
        let what = || format!("write the private file {}", path.display());
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(Error::io(what(), source)),
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| Error::io(what(), source))?;
        file.write_all(text.as_bytes()).map_err(|source| Error::io(what(), source))
    }
}
