//! Services on loopback that runs are told to: AWS' (moto), a mail server, and whoever takes HTTP requests.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::TempDir;

/// How long something may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where nobody else can reach them.
const LOOPBACK: &str = "127.0.0.1";

/// A script of `crates/testkit/python`, which says its port and ends when its stdin does.
#[derive(Debug)]
struct Script {
    child: Child,
    host: String,
    port: u16,
}

impl Script {
    fn start(name: &str, host: &str, arguments: &[&str]) -> Self {
        let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut child = Command::new(crate::python_program("python"))
            .arg(testkit.join("python").join(name))
            .arg(host)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python can be run");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it has a stdout");
        BufReader::new(stdout).read_line(&mut line).expect("it can be read");
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{name} does not start: {line:?}"));
        Self { child, host: host.to_owned(), port }
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// CloudWatch and SNS, as moto has them.
#[derive(Debug)]
pub struct Aws {
    script: Script,
}

impl Aws {
    /// Starts one that knows nothing yet.
    pub fn start() -> Self {
        Self::start_at(LOOPBACK)
    }

    /// The same at an address of this machine that others can reach, such as containers on it.
    pub fn start_at(host: &str) -> Self {
        Self { script: Script::start("aws.py", host, &[]) }
    }

    /// Its address, for every service.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.script.host, self.script.port)
    }

    /// The variables with which programs find CloudWatch and SNS here.
    pub fn environment(&self) -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL_CLOUDWATCH", self.url()),
            ("AWS_ENDPOINT_URL_SNS", self.url()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ]
    }

    /// Asks CloudWatch directly, by its JSON protocol.
    pub fn cloudwatch(&self, operation: &str, request: &Value) -> Value {
        let headers = format!(
            "content-type: application/x-amz-json-1.0\r\nx-amz-target: GraniteServiceVersion20100801.{operation}"
        );
        let answer = self.ask("monitoring", &headers, &request.to_string());
        if answer.is_empty() { Value::Null } else { serde_json::from_str(&answer).expect("CloudWatch answers JSON") }
    }

    /// How many values of a metric came within an hour, their sum and the most; `None` if none came.
    pub fn statistics(&self, namespace: &str, metric: &str, database: &str) -> Option<(u64, f64, f64)> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let request = serde_json::json!({
            "Namespace": namespace,
            "MetricName": metric,
            "Dimensions": [{ "Name": "Database", "Value": database }],
            "StartTime": now - 3_600,
            "EndTime": now + 3_600,
            "Period": 7_200,
            "Statistics": ["SampleCount", "Sum", "Maximum"],
        });
        let answer = self.cloudwatch("GetMetricStatistics", &request);
        let points = answer["Datapoints"].as_array().cloned().unwrap_or_default();
        let sum = |name: &str| points.iter().filter_map(|point| point[name].as_f64()).sum::<f64>();
        let most = points.iter().filter_map(|point| point["Maximum"].as_f64()).reduce(f64::max)?;
        Some((sum("SampleCount").round() as u64, sum("Sum"), most))
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, name: &str) {
        let request = format!(
            "PUT /{name} HTTP/1.0\r\nhost: {}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential=test/20251017/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n",
            self.script.host
        );
        self.exchange(&request);
    }

    /// Makes a topic; its ARN.
    pub fn create_topic(&self, name: &str) -> String {
        let answer = self.sns(&format!("Action=CreateTopic&Name={name}"));
        elements(&answer, "TopicArn").pop().expect("a topic has an ARN")
    }

    /// The ARNs of all topics, in order.
    pub fn topics(&self) -> Vec<String> {
        let mut topics = elements(&self.sns("Action=ListTopics"), "TopicArn");
        topics.sort();
        topics
    }

    /// Subscribes an http URL to a topic.
    pub fn subscribe(&self, topic_arn: &str, url: &str) {
        let (topic, url) = (crate::percent_encoded(topic_arn), crate::percent_encoded(url));
        self.sns(&format!("Action=Subscribe&Protocol=http&TopicArn={topic}&Endpoint={url}"));
    }

    fn sns(&self, form: &str) -> String {
        let form = format!("{form}&Version=2010-03-31");
        self.ask("sns", "content-type: application/x-www-form-urlencoded", &form)
    }

    /// moto tells services by the signature's scope, and does not look at the signature.
    fn ask(&self, service: &str, headers: &str, body: &str) -> String {
        let request = format!(
            "POST / HTTP/1.0\r\nhost: 127.0.0.1\r\n{headers}\r\ncontent-length: {}\r\nauthorization: AWS4-HMAC-SHA256 \
             Credential=test/20251017/eu-central-1/{service}/aws4_request, SignedHeaders=host, Signature=0\r\n\r\n{body}",
            body.len()
        );
        self.exchange(&request)
    }

    /// The body of the answer, which must be a success.
    fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect((self.script.host.as_str(), self.script.port)).expect("moto listens");
        stream.write_all(request.as_bytes()).expect("moto takes requests");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("moto answers");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        assert!(head.lines().next().is_some_and(|status| status.contains(" 200 ")), "{answer}");
        body.to_owned()
    }
}

/// The texts of an XML document's elements of this name.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).filter_map(|rest| Some(rest.split_once(&close)?.0.to_owned())).collect()
}

/// A mail server.
#[derive(Debug)]
pub struct MailServer {
    script: Script,
    folder: TempDir,
}

impl MailServer {
    /// Starts one; with a login, senders must use it.
    pub fn start(login: Option<(&str, &str)>) -> Self {
        Self::start_at(LOOPBACK, login)
    }

    /// The same at an address of this machine that others can reach.
    pub fn start_at(host: &str, login: Option<(&str, &str)>) -> Self {
        let folder = tempfile::Builder::new().prefix("pgkeep-mail-").tempdir().expect("a temporary folder");
        let path = folder.path().to_str().expect("its name is text").to_owned();
        let mut arguments = vec![path.as_str()];
        arguments.extend(login.into_iter().flat_map(|(user, password)| [user, password]));
        Self { script: Script::start("mail.py", host, &arguments), folder }
    }

    /// Its address, with this login or none: `user:password@`.
    pub fn url(&self, login: &str) -> String {
        format!("smtp://{login}{}:{}", self.script.host, self.script.port)
    }

    /// The messages so far, in order; the first line says from whom to whom, encoded words and lines are as they were sent.
    pub fn messages(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).expect("the folder can be listed");
        let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "eml"));
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).expect("a message can be read")).collect()
    }
}

/// A request that was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// The body.
    pub body: String,
}

/// Takes every HTTP request and remembers it: webhooks, pings, a Pushgateway, a subscriber of a topic.
#[derive(Debug)]
pub struct Receiver {
    host: String,
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    status: Arc<Mutex<u16>>,
}

impl Receiver {
    /// Starts one that answers 200.
    pub fn start() -> Self {
        Self::start_at(LOOPBACK)
    }

    /// The same at an address of this machine that others can reach.
    pub fn start_at(host: &str) -> Self {
        let listener = TcpListener::bind((host, 0)).expect("a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let status = Arc::new(Mutex::new(200));
        let (seen, answer) = (Arc::clone(&requests), Arc::clone(&status));
        // Lives as long as the test's process: it holds nothing but a port.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let status = *answer.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(request) = receive(stream, status) {
                    seen.lock().unwrap_or_else(PoisonError::into_inner).push(request);
                }
            }
        });
        Self { host: host.to_owned(), port, requests, status }
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}:{}", self.host, self.port)
    }

    /// Answers this from now on.
    pub fn answer(&self, status: u16) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The requests, once there are this many.
    pub fn wait_for(&self, count: usize) -> Vec<Request> {
        let until = Instant::now() + PATIENCE;
        loop {
            let requests = self.requests();
            if requests.len() >= count {
                return requests;
            }
            assert!(Instant::now() < until, "{count} requests were expected: {requests:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// One request, answered.
fn receive(stream: TcpStream, status: u16) -> Option<Request> {
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let answer = format!("HTTP/1.1 {status} As told\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    reader.into_inner().write_all(answer.as_bytes()).ok()?;
    Some(Request { method, path, body: String::from_utf8_lossy(&body).into_owned() })
}
