//! The dashboard as a value, and the rules that CloudWatch has for its body.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};

use crate::Metric;
use crate::plan::dimension_value;
use crate::plan::{OLD_TEST_SECONDS, SLOW_SECONDS};

/// What shows that a dashboard is ours.
pub(crate) const MARK: &str = "Made by `pgkeep monitor install`";
/// CloudWatch's grid.
const COLUMNS: u64 = 24;
const MOST_WIDGETS: usize = 500;
const DAY: u32 = 86_400;

/// A dashboard of one database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dashboard {
    /// Its name.
    pub name: String,
    namespace: String,
    database: String,
    region: String,
}

impl Dashboard {
    pub(crate) fn new(name: &str, namespace: &str, database: &str, region: &str) -> Self {
        let [name, namespace, database, region] = [name, namespace, database, region].map(str::to_owned);
        Self { name, namespace, database, region }
    }

    /// Where people see it.
    pub fn url(&self) -> String {
        let Self { name, region, .. } = self;
        format!("https://console.aws.amazon.com/cloudwatch/home?region={region}#dashboards:name={name}")
    }

    /// Its body: success rate of 24 hours, size, duration, restore tests, recent failures, and the alarms with these ARNs.
    pub fn body(&self, alarm_arns: &[String]) -> Value {
        let Self { database, .. } = self;
        let text = format!("## Backups of {database}\n{MARK}; `pgkeep monitor remove` takes it away.");
        let mut widgets = vec![
            widget("text", (0, 0, 24, 2), &json!({ "markdown": text })),
            self.numbers(
                (0, 2, 6, 6),
                "Backup success rate (24 h)",
                &json!([
                    [{ "expression": "100 * m", "label": "%", "id": "e" }],
                    self.metric(Metric::BackupSuccess, &json!({ "id": "m", "stat": "Average", "visible": false })),
                ]),
                DAY,
            ),
            self.graph(
                (6, 2, 9, 6),
                "Backup size",
                &json!([self.metric(Metric::BackupSize, &json!({ "stat": "Maximum" })),
                    self.metric(Metric::BackupSizeChange, &json!({ "stat": "Minimum", "yAxis": "right" }))]),
                None,
            ),
            self.graph(
                (15, 2, 9, 6),
                "Backup duration",
                &json!([self.metric(Metric::BackupDuration, &json!({ "stat": "Maximum" }))]),
                Some(("30 minutes", SLOW_SECONDS)),
            ),
            self.graph(
                (0, 8, 9, 6),
                "Restore tests",
                &json!([self.metric(Metric::RestoreSuccess, &json!({ "stat": "Sum" })),
                    self.metric(Metric::RestoreDuration, &json!({ "stat": "Maximum", "yAxis": "right" }))]),
                None,
            ),
            self.graph(
                (9, 8, 6, 6),
                "Age of the last restore test",
                &json!([self.metric(Metric::RestoreTestAge, &json!({ "stat": "Maximum" }))]),
                Some(("30 days", OLD_TEST_SECONDS)),
            ),
            self.graph(
                (15, 8, 9, 6),
                "Failed backups",
                &json!([
                    [{ "expression": "runs - good", "label": "failed", "id": "failed", "color": "#d62728" }],
                    self.metric(Metric::BackupSuccess, &json!({ "id": "runs", "stat": "SampleCount", "visible": false })),
                    self.metric(Metric::BackupSuccess, &json!({ "id": "good", "stat": "Sum", "visible": false })),
                ]),
                None,
            ),
        ];
        if !alarm_arns.is_empty() {
            widgets.push(widget("alarm", (0, 14, 24, 3), &json!({ "title": "Alarms", "alarms": alarm_arns })));
        }
        json!({ "start": "-P14D", "widgets": widgets })
    }

    fn metric(&self, metric: Metric, options: &Value) -> Value {
        json!([self.namespace, metric.name(), "Database", dimension_value(&self.database), options])
    }

    fn graph(&self, place: Place, title: &str, metrics: &Value, line: Option<(&str, f64)>) -> Value {
        let mut properties = self.properties("timeSeries", title, metrics, 3_600);
        if let Some((label, value)) = line {
            properties["annotations"] = json!({ "horizontal": [{ "label": label, "value": value }] });
        }
        widget("metric", place, &properties)
    }

    fn numbers(&self, place: Place, title: &str, metrics: &Value, period: u32) -> Value {
        widget("metric", place, &self.properties("singleValue", title, metrics, period))
    }

    fn properties(&self, view: &str, title: &str, metrics: &Value, period: u32) -> Value {
        json!({ "view": view, "title": title, "region": self.region, "period": period, "stacked": false, "metrics": metrics })
    }

    /// What CloudWatch would refuse.
    pub(crate) fn flaws(&self) -> Vec<String> {
        let mut flaws = dashboard_flaws(&self.body(&[]));
        let named = self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        if !named || !(1..=255).contains(&self.name.len()) {
            flaws.push(format!("a dashboard's name has 1 to 255 letters, digits, - and _: {:?}", self.name));
        }
        flaws
    }
}

/// x, y, width, height.
type Place = (u64, u64, u64, u64);

fn widget(kind: &str, (x, y, width, height): Place, properties: &Value) -> Value {
    json!({ "type": kind, "x": x, "y": y, "width": width, "height": height, "properties": properties })
}

/// The names of these alarms' ARNs: `arn:aws:cloudwatch:region:account:alarm:name`.
#[cfg(all(feature = "cloudwatch", feature = "sns"))]
pub(crate) fn in_order(alarms: &[crate::Alarm], arns: &[String]) -> Vec<String> {
    let arn = |alarm: &crate::Alarm| arns.iter().find(|arn| arn.ends_with(&format!(":alarm:{}", alarm.name))).cloned();
    alarms.iter().filter_map(arn).collect()
}

/// What CloudWatch would refuse of a dashboard's body, by its "Dashboard body structure and syntax"; stand-ins for it take anything.
pub fn dashboard_flaws(body: &Value) -> Vec<String> {
    let mut flaws = Vec::new();
    if body.to_string().len() > 1_000_000 {
        flaws.push("a body has at most a megabyte".to_owned());
    }
    let Some(widgets) = body["widgets"].as_array() else {
        return vec!["a body has a list of widgets".to_owned()];
    };
    if widgets.len() > MOST_WIDGETS {
        flaws.push(format!("a dashboard has at most {MOST_WIDGETS} widgets"));
    }
    let mut taken: Vec<Place> = Vec::new();
    for (number, widget) in widgets.iter().enumerate() {
        let mut flaw = |text: &str| flaws.push(format!("widget {number}: {text}"));
        let side = |name: &str| widget[name].as_u64();
        match (side("x"), side("y"), side("width"), side("height")) {
            (Some(x), Some(y), Some(width), Some(height)) => {
                if !(1..=COLUMNS).contains(&width) || x + width > COLUMNS || !(1..=1_000).contains(&height) {
                    flaw("it lies outside the grid");
                }
                if taken
                    .iter()
                    .any(|(left, top, w, h)| x < left + w && *left < x + width && y < top + h && *top < y + height)
                {
                    flaw("it lies over another");
                }
                taken.push((x, y, width, height));
            }
            _ => flaw("x, y, width and height are whole numbers"),
        }
        let properties = &widget["properties"];
        match widget["type"].as_str() {
            Some("text") if properties["markdown"].is_string() => {}
            Some("text") => flaw("a text has markdown"),
            Some("alarm") => {
                let arns = properties["alarms"].as_array().map(Vec::as_slice).unwrap_or_default();
                let sound =
                    |arn: &Value| arn.as_str().is_some_and(|arn| arn.starts_with("arn:") && arn.contains(":alarm:"));
                if arns.is_empty() || arns.len() > 100 || !arns.iter().all(sound) {
                    flaw("alarms are 1 to 100 ARNs");
                }
            }
            Some("metric") => metric_flaws(properties, &mut flaw),
            _ => flaw("its type is none of text, metric, alarm"),
        }
    }
    flaws
}

fn metric_flaws(properties: &Value, flaw: &mut impl FnMut(&str)) {
    const VIEWS: [&str; 6] = ["timeSeries", "singleValue", "gauge", "bar", "pie", "table"];
    if !properties["view"].as_str().is_some_and(|view| VIEWS.contains(&view)) {
        flaw("its view is unknown");
    }
    if properties["region"].as_str().is_none_or(str::is_empty) {
        flaw("a region is needed");
    }
    let sound_period = |period: &Value| {
        period.is_null() || period.as_u64().is_some_and(|period| period > 0 && period.is_multiple_of(60))
    };
    if !sound_period(&properties["period"]) {
        flaw("a period is whole minutes");
    }
    let metrics = properties["metrics"].as_array().map(Vec::as_slice).unwrap_or_default();
    if metrics.is_empty() {
        flaw("it has no metrics");
    }
    let mut ids = BTreeSet::new();
    let mut expressions = Vec::new();
    let mut visible = 0;
    for metric in metrics {
        let Some(parts) = metric.as_array() else {
            flaw("a metric is a list");
            continue;
        };
        let options = parts.last().filter(|last| last.is_object()).unwrap_or(&Value::Null);
        let words = parts.len() - usize::from(options.is_object());
        let expression = options["expression"].as_str();
        let named = parts.iter().take(words).all(|word| word.as_str().is_some_and(|word| !word.is_empty()));
        // Namespace, name, and pairs of dimension and value; or an expression alone.
        let sound = if expression.is_some() { words == 0 } else { words >= 2 && words % 2 == 0 && named };
        if !sound {
            flaw("a metric is namespace, name and pairs of dimensions, or an expression");
        }
        if let Some(id) = options["id"].as_str() {
            let lower = id.starts_with(|first: char| first.is_ascii_lowercase());
            if !lower || !id.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') || !ids.insert(id.to_owned()) {
                flaw("ids begin with a small letter, have letters, digits and _, and are unique");
            }
        }
        if options["visible"] != json!(false) {
            visible += 1;
        }
        if !sound_period(&options["period"]) {
            flaw("a period is whole minutes");
        }
        expressions.extend(expression.map(str::to_owned));
    }
    if visible == 0 {
        flaw("nothing of it is visible");
    }
    for expression in &expressions {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let names = words.filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
        if names.into_iter().any(|name| !ids.contains(name)) {
            flaw("an expression names what is not there");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dashboard() -> Dashboard {
        Dashboard::new("PgKeep-Backups-app", "PgKeep/Backups", "app", "eu-central-1")
    }

    #[test]
    fn it_has_what_the_procedures_want_and_is_sound() {
        let arns = ["arn:aws:cloudwatch:eu-central-1:123456789012:alarm:PgKeep-Backups-app-backup-failure".to_owned()];
        let body = dashboard().body(&arns);
        assert_eq!(dashboard_flaws(&body), Vec::<String>::new());
        let text = body.to_string();
        for what in ["success rate (24 h)", "Backup size", "Backup duration", "Restore tests", "Failed backups", MARK] {
            assert!(text.contains(what), "{what}");
        }
        assert_eq!(
            dashboard().url(),
            "https://console.aws.amazon.com/cloudwatch/home?region=eu-central-1#dashboards:name=PgKeep-Backups-app"
        );
    }

    #[test]
    fn what_cloudwatch_refuses_is_found() {
        let sound = dashboard().body(&[]);
        let broken = |path: &str, value: Value| {
            let mut body = sound.clone();
            *body.pointer_mut(path).unwrap() = value;
            dashboard_flaws(&body).len()
        };
        for (path, value) in [
            ("/widgets", json!("none")),
            ("/widgets/1/type", json!("chart")),
            ("/widgets/1/x", json!(20)),
            ("/widgets/1/x", json!(8)),
            ("/widgets/1/width", json!(0)),
            ("/widgets/0/properties/markdown", json!(1)),
            ("/widgets/1/properties/view", json!("round")),
            ("/widgets/1/properties/region", json!("")),
            ("/widgets/1/properties/period", json!(90)),
            ("/widgets/1/properties/metrics", json!([])),
            ("/widgets/1/properties/metrics/0/0/expression", json!("100 * n")),
            ("/widgets/1/properties/metrics/1/4/id", json!("M")),
            ("/widgets/2/properties/metrics/0", json!(["ns", "name", "Database"])),
        ] {
            assert!(broken(path, value.clone()) > 0, "{path} {value}");
        }
    }
}
