//! `pgkeep check --show-settings`: each value with where it came from, secrets left out.

use pgkeep_storage::Location;
use serde_json::{Value, json};

use crate::commands::{Context, Done};
use crate::render::tables;
use crate::settings::variable::{self, Care, Variable};
use crate::settings::{
    DEFAULT_BACKUP_DIR, DEFAULT_COMPRESSION, DEFAULT_LOG_FILE, DEFAULT_PREFIX, Found, Settings, default_text,
};

const HIDDEN: &str = "***REDACTED***";

pub(super) fn run(context: &Context) -> Done {
    let settings = &context.settings;
    let mut rows = Vec::new();
    let mut documents = Vec::new();
    for variable in variable::ALL {
        let found = settings.layers.get(variable);
        let (value, origin) = match &found {
            Some(found) => (shown(context, variable, found), found.origin.to_string()),
            None => (default(settings, variable).unwrap_or_default(), "default".to_owned()),
        };
        documents.push(json!({
            "variable": variable.name,
            "key": (!variable.key.is_empty()).then_some(variable.key),
            "value": if value.is_empty() { Value::Null } else { json!(value) },
            "origin": origin,
            "secret": variable.care == Care::Secret,
        }));
        rows.push([variable.name.to_owned(), if value.is_empty() { "-".to_owned() } else { value }, origin]);
    }
    let text = tables::table(["SETTING", "VALUE", "FROM"], &[], rows);
    Done::new(text, "settings", Value::Array(documents))
}

/// A secret is replaced; of connection string and store what is no secret is told.
fn shown(context: &Context, variable: &Variable, found: &Found) -> String {
    match variable.care {
        Care::Plain | Care::Programs => found.text.clone(),
        Care::Secret if variable.name == variable::STORE.name => Location::new(found.text.clone()).to_string(),
        Care::Secret if variable.name == variable::DATABASE_URL.name => match context.connect_settings() {
            Ok(settings) => {
                let password = if settings.has_password() { ", password known" } else { "" };
                format!("{HIDDEN} ({}@{}/{}{password})", settings.user(), settings.server(), settings.database())
            }
            Err(_) => HIDDEN.to_owned(),
        },
        Care::Secret => HIDDEN.to_owned(),
    }
}

/// What holds where nothing is set, as far as it is one value.
fn default(settings: &Settings, variable: &Variable) -> Option<String> {
    let seconds = |duration: std::time::Duration| format!("{}s", duration.as_secs());
    Some(match variable.name {
        "BACKUP_PREFIX" => settings
            .remote
            .as_ref()
            .map_or_else(|| DEFAULT_PREFIX.to_owned(), |remote| remote.url.path().trim_matches('/').to_owned()),
        "BACKUP_DIR" => DEFAULT_BACKUP_DIR.to_owned(),
        "BACKUP_LOCAL_REQUIRED" => settings.local.as_ref().is_some_and(|local| local.required).to_string(),
        "BACKUP_COMPRESSION" => DEFAULT_COMPRESSION.to_owned(),
        "BACKUP_JOBS" => settings.jobs.to_string(),
        "BACKUP_ENGINE" | "BACKUP_STORAGE_CLASS" | "BACKUP_SSE" | "BACKUP_S3_ADDRESSING" => "auto".to_owned(),
        "BACKUP_WAIT" => seconds(settings.wait),
        "BACKUP_LOCK_WAIT_TIMEOUT" => seconds(settings.lock_wait),
        "BACKUP_ROLE_PASSWORDS" => settings.role_passwords.to_string(),
        "BACKUP_PRUNE" => settings.prune.to_string(),
        "BACKUP_SOURCE_NAME" => settings.source_name.clone()?,
        "LOG_FILE" => DEFAULT_LOG_FILE.to_owned(),
        _ => return default_text(variable),
    })
}
