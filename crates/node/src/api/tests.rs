//! The socket, from both ends, and what docs/api.md says of it.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tree::{StateDir, StateLock};

use super::*;

const REFERENCE: &str = include_str!("../../../../docs/api.md");

/// Records what it is asked, and answers as a test wishes.
#[derive(Default)]
struct Fake {
    asked: Mutex<Vec<Request>>,
    /// Of streams: where its events come from.
    events: Mutex<Vec<mpsc::Sender<ApiEvent>>>,
}

impl Service for Fake {
    fn request(&self, request: Request) -> Answer<'_, Value> {
        self.asked.lock().unwrap().push(request.clone());
        Box::pin(async move {
            match request {
                Request::Locate { .. } => {
                    Err(Failure::usage("no_folder", "there is no folder b\u{1b}").hint("look"))
                }
                Request::PairCancel => Err(Failure::refused("no")),
                other => Ok(json!({ "you": format!("{other:?}") })),
            }
        })
    }

    fn stream(&self, request: Request) -> Answer<'_, mpsc::Receiver<ApiEvent>> {
        self.asked.lock().unwrap().push(request.clone());
        Box::pin(async move {
            if matches!(request, Request::PairJoin { .. }) {
                return Err(Failure::failed("busy", "a pairing is under way"));
            }
            let (send, receive) = mpsc::channel(8);
            self.events.lock().unwrap().push(send);
            Ok(receive)
        })
    }
}

struct World {
    dir: TempDir,
    fake: Arc<Fake>,
    lock: StateLock,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let lock = StateDir::open(dir.path()).unwrap().lock().unwrap();
        let fake = Arc::new(Fake::default());
        let (stop, stopped) = oneshot::channel();
        let server = Server::bind(dir.path(), None, &lock).unwrap();
        let service: Arc<dyn Service> = fake.clone();
        let serving = tokio::spawn(server.serve(service, async {
            let _ = stopped.await;
        }));
        Self { dir, fake, lock, stop: Some(stop), serving }
    }

    fn path(&self) -> std::path::PathBuf {
        socket_path(self.dir.path(), None).unwrap()
    }

    async fn client(&self) -> Client {
        Client::connect(&self.path()).await.unwrap().expect("it listens")
    }

    async fn open(&self) -> UnixStream {
        UnixStream::connect(self.path()).await.unwrap()
    }

    /// Sends bytes and returns the status and the body of what comes back.
    async fn raw(&self, bytes: &[u8]) -> (u16, String) {
        let mut stream = self.open().await;
        // The other side may have hung up before it has read all of it.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).map_or(0, |status| status.parse().unwrap());
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, body.to_owned())
    }

    async fn failure(&self, head: &str, body: &str) -> (u16, Failure) {
        let length = body.len();
        let head = head.replace('\n', "\r\n");
        let request =
            format!("{head}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}");
        let (status, body) = self.raw(request.as_bytes()).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|_| panic!("{status} {body}")))
    }

    fn asked(&self) -> Vec<Request> {
        std::mem::take(&mut *self.fake.asked.lock().unwrap())
    }
}

#[tokio::test]
async fn a_request_arrives_whole_and_so_does_its_answer() {
    let world = World::new();
    let client = world.client().await;
    for request in every_request() {
        if request.is_stream() || matches!(request, Request::Locate { .. } | Request::PairCancel) {
            continue;
        }
        let answer = client.request(request.clone()).await.unwrap();
        assert_eq!(answer, json!({ "you": format!("{request:?}") }));
        assert_eq!(world.asked(), [request]);
    }
    let locate = Request::Locate { folder: "b".into() };
    let failure = client.request(locate).await.unwrap_err();
    assert_eq!(failure, Failure::usage("no_folder", "there is no folder b\u{1b}").hint("look"));
    let failure = client.request(Request::PairCancel).await.unwrap_err();
    assert_eq!((failure.exit, failure.kind.as_str()), (3, "refused"));
}

#[tokio::test]
async fn a_stream_brings_events_until_it_ends_on_either_side() {
    let world = World::new();
    let client = world.client().await;
    let mut events = client.stream(Request::Events).await.unwrap();
    let send = world.fake.events.lock().unwrap().pop().unwrap();
    for event in every_event() {
        send.send(event.clone()).await.unwrap();
        assert_eq!(events.recv().await, Some(event));
    }
    drop(events);
    // The device hears of it without having anything to say.
    send.closed().await;

    let mut events = client.stream(Request::Events).await.unwrap();
    drop(world.fake.events.lock().unwrap().pop().unwrap());
    assert_eq!(events.recv().await, None);

    let join = Request::PairJoin { token: "kt1x".into(), expect_device: None };
    let failure = client.stream(join).await.unwrap_err();
    assert_eq!(failure, Failure::failed("busy", "a pairing is under way"));
}

#[tokio::test]
async fn an_event_of_a_later_version_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let serving = tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n";
                stream.write_all(head.as_bytes()).await.unwrap();
                stream.write_all(b"{\"event\":\"dance\",\"x\":1}\n{\"event\":").await.unwrap();
                stream.write_all(b"\"timeout\"}\n").await.unwrap();
            });
        }
    });
    let client = Client::connect(&path).await.unwrap().unwrap();
    let mut events = client.stream(Request::Events).await.unwrap();
    assert_eq!(events.recv().await, Some(ApiEvent::Timeout));
    assert_eq!(events.recv().await, None);
    serving.abort();
}

#[tokio::test]
async fn nobody_there_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(Client::connect(&dir.path().join("api.sock")).await.unwrap().is_none());
    assert!(Client::connect(&dir.path().join("no/api.sock")).await.unwrap().is_none());
    // Left by a process that has ended.
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("api.sock")).unwrap());
    assert!(Client::connect(&dir.path().join("api.sock")).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stop_lets_answers_end_and_takes_the_socket_away() {
    let mut world = World::new();
    let client = world.client().await;
    let mut events = client.stream(Request::Events).await.unwrap();
    let send = world.fake.events.lock().unwrap().pop().unwrap();
    world.stop.take().unwrap().send(()).unwrap();
    while world.path().exists() {
        tokio::task::yield_now().await;
    }
    send.send(ApiEvent::Stopped).await.unwrap();
    drop(send);
    assert_eq!(events.recv().await, Some(ApiEvent::Stopped));
    world.serving.await.unwrap();
    assert!(
        Client::connect(&socket_path(world.dir.path(), None).unwrap()).await.unwrap().is_none()
    );
    // Whoever holds the lock may listen again.
    Server::bind(world.dir.path(), None, &world.lock).unwrap();
}

#[tokio::test]
async fn attack_39_a_web_page_is_refused() {
    let world = World::new();
    for head in [
        "POST /v1/status HTTP/1.1\nHost: kin\nOrigin: http://localhost",
        "POST /v1/status HTTP/1.1\nHost: kin\nOrigin: null",
        "POST /v1/status HTTP/1.1\nHost: evil.example",
        "POST /v1/status HTTP/1.1\nHost: localhost.evil.example",
        "POST /v1/status HTTP/1.1\nHost: kin\nHost: evil.example",
        "POST /v1/status HTTP/1.1",
        "POST /v1/down HTTP/1.0",
        "GET /v1/status HTTP/1.1\nHost: 127.0.0.1",
        "GET / HTTP/1.1\nHost: 127.0.0.1",
        "OPTIONS /v1/down HTTP/1.1\nHost: kin\nOrigin: http://evil.example",
    ] {
        let (status, failure) = world.failure(head, "").await;
        assert_eq!((status, failure.kind.as_str()), (403, "forbidden"), "{head}");
    }
    assert_eq!(world.asked(), [], "nothing was carried out");
    for head in ["GET /v1/status HTTP/1.1\nHost: localhost", "POST /v1/status HTTP/1.1\nHost: kin"]
    {
        let head = head.replace('\n', "\r\n");
        let answer = world.raw(format!("{head}\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert_eq!(answer.0, 200, "{head}");
    }
    assert_eq!(world.asked(), [Request::Status, Request::Status]);
}

#[tokio::test]
async fn attack_39_what_is_no_request_costs_an_error() {
    let world = World::new();
    let post = |name: &str| format!("POST /v1/{name} HTTP/1.1\nHost: kin");
    for (name, body, expected) in [
        ("status", "{", (400, "bad_request")),
        ("status", "[]", (400, "bad_request")),
        ("status", "{\"x\":1}", (400, "bad_request")),
        ("pair", "{\"hots\":\"x\"}", (400, "bad_request")),
        ("answer", "{\"id\":-1,\"yes\":true}", (400, "bad_request")),
        ("answer", "{\"id\":1,\"yes\":true,\"request\":\"down\"}", (400, "bad_request")),
        ("status", "{\"request\":\"down\"}", (400, "bad_request")),
        ("share", "{}", (400, "bad_request")),
        ("set_mode", "{\"folder\":\"a\",\"mode\":\"sideways\"}", (400, "bad_request")),
        ("nothing", "{}", (404, "unknown_request")),
        ("%00", "{}", (404, "unknown_request")),
        ("Status", "{}", (404, "unknown_request")),
        ("status/more", "{}", (404, "unknown_request")),
    ] {
        let (status, failure) = world.failure(&post(name), body).await;
        assert_eq!((status, failure.kind.as_str()), expected, "{name} {body}: {failure}");
    }
    for (head, expected) in [
        ("GET /v1/down HTTP/1.1\nHost: kin", 405),
        ("GET /v1/share HTTP/1.1\nHost: kin", 405),
        ("DELETE /v1/status HTTP/1.1\nHost: kin", 405),
        ("GET /v1/nothing HTTP/1.1\nHost: kin", 404),
        ("GET / HTTP/1.1\nHost: kin", 404),
    ] {
        assert_eq!(world.failure(head, "").await.0, expected, "{head}");
    }
    // A head that is none, and one without end.
    assert_eq!(world.raw(b"\x16\x03\x01 hello\r\n\r\n").await.0, 400);
    let endless = format!("GET /v1/status HTTP/1.1\r\nHost: kin\r\nX: {}", "x".repeat(1 << 20));
    assert_eq!(world.raw(endless.as_bytes()).await.0, 431);
    assert_eq!(world.asked(), [], "nothing was carried out");
}

#[tokio::test]
async fn attack_39_a_large_body_is_refused() {
    let world = World::new();
    let name = |length: usize| format!("{{\"name\":\"{}\"}}", "x".repeat(length - 11));
    let head = "POST /v1/create_group HTTP/1.1\nHost: kin";
    let (status, failure) = world.failure(head, &name(MAX_BODY + 1)).await;
    assert_eq!((status, failure.kind.as_str()), (413, "too_large"));
    assert_eq!(world.asked(), []);
    let client = world.client().await;
    let fits = Request::CreateGroup { name: "x".repeat(MAX_BODY - 11) };
    client.request(fits.clone()).await.unwrap();
    assert_eq!(world.asked(), [fits]);
}

#[tokio::test]
async fn attack_39_connections_are_bounded_and_come_back() {
    let world = World::new();
    let mut held = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        let mut stream = world.open().await;
        stream.write_all(b"GET /v1/status HTTP/1.1\r\nHost: kin\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    let client = Client::connect(&world.path()).await.unwrap().unwrap();
    let mut refused = world.open().await;
    let mut answer = String::new();
    refused.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"busy\""), "{answer}");
    drop(held);
    loop {
        // A place is free as soon as the server has seen that one left.
        match client.request(Request::Status).await {
            Ok(_) => break,
            Err(failure) => assert!(["busy", "protocol"].contains(&&*failure.kind), "{failure}"),
        }
    }
}

#[tokio::test]
async fn only_who_holds_the_lock_listens() {
    let world = World::new();
    let second = StateDir::open(world.dir.path()).unwrap().lock();
    assert!(second.is_err(), "a process that has no lock cannot even try");
    world.client().await.request(Request::Status).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let lock = StateDir::open(dir.path()).unwrap().lock().unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.path().join("api.sock")).unwrap());
    let server = Server::bind(dir.path(), None, &lock).unwrap();
    assert_eq!(server.path(), socket_path(dir.path(), None).unwrap());
    assert!(Client::connect(server.path()).await.unwrap().is_some());
}

/// One of each, with every field set.
fn every_request() -> Vec<Request> {
    let text = |key: &str| match key {
        "dir" => json!("/a/b\n"),
        "id" | "number" => json!(7),
        "yes" | "last_admin" | "accept_deletes" | "ask" | "under" | "discovery" | "into_here"
        | "from_here" => json!(true),
        "devices" | "folders" | "paths" | "networks" => json!(["x", "y"]),
        "mode" => json!("receive"),
        "into" => json!("theirs"),
        "timeout" | "port" | "window" | "since" | "expires" | "uses" => json!(60),
        _ => json!("x\u{1b}\"ä"),
    };
    let request = |name: &&str| {
        let fields = fields_of(name).into_iter().map(|key| (key.clone(), text(&key)));
        Request::from_parts(name, fields.collect()).unwrap()
    };
    Request::NAMES.iter().map(request).collect()
}

/// What serde says it would have taken.
fn listed(error: &str) -> Vec<String> {
    let (_, list) = error.split_once("expected").unwrap_or_else(|| panic!("{error}"));
    list.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// The fields of a request, as its declaration has them.
fn fields_of(name: &str) -> Vec<String> {
    let fields = Map::from_iter([("?".to_owned(), Value::Null)]);
    let error = Request::from_parts(name, fields).unwrap_err().message;
    if error.ends_with("unknown field `?`") { Vec::new() } else { listed(&error) }
}

fn every_event() -> Vec<ApiEvent> {
    let error = serde_json::from_value::<ApiEvent>(json!({ "event": "?" })).unwrap_err();
    let event = |name: &String| {
        let mut value = json!({ "event": name });
        loop {
            // The next field that is missing, of the type that it turns out to have.
            let error = match serde_json::from_value::<ApiEvent>(value.clone()) {
                Ok(event) => return event,
                Err(error) => error.to_string(),
            };
            let field = error
                .strip_prefix("missing field `")
                .and_then(|rest| rest.split('`').next())
                .unwrap_or_else(|| panic!("{name}: {error}"));
            value[field] = json!(7);
            let refused = serde_json::from_value::<ApiEvent>(value.clone()).err();
            if refused.is_some_and(|error| error.to_string().starts_with("invalid type")) {
                value[field] = json!("x\u{202e}\n");
            }
        }
    };
    listed(&error.to_string()).iter().map(event).collect()
}

#[test]
fn the_list_of_names_is_the_declarations() {
    let error = serde_json::from_value::<Request>(json!({ "request": "?" })).unwrap_err();
    assert_eq!(listed(&error.to_string()), Request::NAMES);
    for request in every_request() {
        let (name, fields) = request.to_parts();
        assert_eq!(Request::from_parts(&name, fields.clone()).unwrap(), request);
        let mut declared = fields_of(&name);
        declared.sort();
        assert!(fields.keys().eq(declared.iter()), "{name}: {declared:?} is not {fields:?}");
    }
}

/// The part of the reference that is about something.
fn section<'a>(title: &str, end: &str) -> &'a str {
    let (_, rest) = REFERENCE.split_once(title).unwrap_or_else(|| panic!("{title} is missing"));
    rest.split(end).next().unwrap()
}

#[test]
fn the_reference_names_every_request_and_field() {
    for request in every_request() {
        let (name, fields) = request.to_parts();
        let row = REFERENCE
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")))
            .unwrap_or_else(|| panic!("docs/api.md: the request {name} is missing"));
        for field in fields.keys() {
            assert!(row.contains(&format!("`{field}`")), "docs/api.md: {name}: {field}");
        }
    }
}

#[test]
fn the_reference_names_every_event_and_field() {
    let events = section("\n## Events", "\n## ");
    for event in every_event() {
        let Value::Object(fields) = serde_json::to_value(&event).unwrap() else { panic!() };
        let name = fields["event"].as_str().unwrap();
        let row = events
            .lines()
            .find(|line| line.starts_with(&format!("| `{name}` |")))
            .unwrap_or_else(|| panic!("docs/api.md: the event {name} is missing"));
        for field in fields.keys().filter(|field| *field != "event") {
            assert!(row.contains(&format!("`{field}`")), "docs/api.md: {name}: {field}");
        }
    }
}

#[test]
fn the_reference_names_every_field_of_an_answer() {
    let device = DeviceLine {
        device: String::new(),
        name: String::new(),
        role: String::new(),
        group: String::new(),
        online: true,
        last_seen: Some(1),
        me: true,
    };
    let folder = FolderLine {
        folder: String::new(),
        name: String::new(),
        dir: None,
        group: String::new(),
        state: FolderState::Idle,
        reason: Some(String::new()),
        files: 0,
        bytes: 0,
        need_files: 0,
        need_bytes: 0,
        conflicts: 0,
        role: String::new(),
        mode: FolderMode::Both,
    };
    let group = GroupLine {
        group: String::new(),
        name: String::new(),
        used: true,
        role: String::new(),
        devices: 1,
        folders: 1,
        warnings: vec![],
    };
    let (device_id, name) = (String::new(), String::new());
    let join = JoinLine { device: device_id.clone(), name, ceremony: "lan".into(), since: 1 };
    let trouble = Trouble {
        kind: String::new(),
        folder: Some(String::new()),
        message: String::new(),
        hint: String::new(),
    };
    let status = StatusReply {
        device: device_id,
        name: String::new(),
        running: true,
        port: 1,
        devices: vec![],
        folders: vec![],
        groups: vec![],
        joins: vec![],
        errors: vec![],
    };
    let failure = Failure::failed("x", "y");
    for (title, value) in [
        ("### A device", json!(device)),
        ("### A folder", json!(folder)),
        ("### A group", json!(group)),
        ("### A join", json!(join)),
        ("### A plan", json!(Plan::default())),
        ("### A trouble", json!(trouble)),
        ("### The status", json!(status)),
        ("## Errors", json!(failure)),
    ] {
        let section = section(&format!("\n{title}\n"), "\n#");
        for field in value.as_object().unwrap().keys() {
            assert!(section.contains(&format!("`{field}`")), "docs/api.md, {title}: {field}");
        }
    }
    let states = section("\n### A folder\n", "\n#");
    for state in ["idle", "scanning", "syncing", "paused", "stopped", "not_joined"] {
        serde_json::from_value::<FolderState>(json!(state)).unwrap();
        assert!(states.contains(&format!("`{state}`")), "{state}");
    }
}

proptest! {
    #[test]
    fn attack_39_no_fields_make_it_panic(name in "[a-z_]{0,14}", text in any::<String>()) {
        let mut fields = Map::new();
        fields.insert(text.clone(), json!(text));
        let _ = Request::from_parts(&name, fields);
    }
}

#[tokio::test]
async fn a_device_that_hangs_up_in_a_stream_ends_it() {
    let world = World::new();
    let client = world.client().await;
    let mut events = client.stream(Request::Events).await.unwrap();
    world.serving.abort();
    let ended = tokio::time::timeout(Duration::from_secs(60), events.recv()).await;
    assert_eq!(ended.expect("ends"), None);
    assert!(client.request(Request::Status).await.is_err());
    assert!(!Path::new(&world.path()).exists(), "the socket goes with the server");
}
