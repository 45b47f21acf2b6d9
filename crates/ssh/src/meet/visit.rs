//! A conversation in one of Connecto's protocols, on a plain connection. It proves nothing about anybody, and
//! every question about it says so.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use link::Visitor;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};
use wire::ssh::Purpose;

use super::{
    Connecto, Kind, Made, Question,
    ceremony::{Ended, passed_by},
    desk::Desk,
    install::{self, Problem, There},
    line::STEP,
};
use crate::{
    Alias, PublicKey, Tag,
    connecto::{Broken, Claim, End, Json, Lines, Myself, Spoken, Step, Talk, Text, Tie, tie},
};

/// The port of an SSH server that nobody has told of.
const SSH_PORT: u16 = 22;
/// How long this side's own exchange may wait for its answer before the other side's is served after all.
const GRACE: Duration = Duration::from_secs(1);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// How an attempt ends in which the other side did not understand the first line.
const NOT_GREETED: &str = "it did not answer in this protocol";
/// How long a listener may take to greet before it is thought to speak something else.
const GREETING: Duration = Duration::from_secs(2);
/// How long a person on the other side may think; this run may end before.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);
/// Bytes read at once.
const READ: usize = 4096;

/// How this device presents itself.
fn myself(desk: &Desk) -> Option<Myself> {
    let own = desk.setup.own.clone()?;
    Some(Myself {
        name: desk.setup.name.clone(),
        user: desk.setup.home.user().clone(),
        key: own.public,
        comment: desk.setup.comment.clone(),
    })
}

/// Serves a connection that came in and begins with this byte.
pub(super) async fn serve(desk: Arc<Desk>, visitor: Visitor) -> Ended {
    let first = visitor.first;
    let name = desk.setup.name.clone();
    let user = desk.setup.home.user().clone();
    let talk: Box<dyn Talk> = match (Spoken::by(first), desk.setup.purpose) {
        (Some(Spoken::Json), Purpose::Listen) => Box::new(Json::listen(name, user)),
        (Some(Spoken::Text), Purpose::Listen) => Box::new(Text::listen(name, user)),
        (Some(Spoken::Json), Purpose::Sync) => match myself(&desk) {
            Some(me) => Box::new(Json::sync_respond(me)),
            None => return Ended::Looked,
        },
        _ => return Ended::Looked,
    };
    let half = first == b'H';
    // Whole until the end: it counts among the connections that strangers may have.
    let Visitor { stream, addr, .. } = visitor;
    let mut visit = Visit::new(&desk, stream, addr, talk);
    visit.half = half;
    visit.until = Some(Instant::now() + visit.desk.setup.before);
    visit.play().await
}

/// Begins a conversation with a listener. There is one connection for each attempt and none before it: a
/// listener of Connecto's that serves one pairing serves one connection.
pub(super) async fn pair(desk: Arc<Desk>, addr: SocketAddr, kind: Kind) -> Result<Ended, String> {
    let Some(me) = myself(&desk) else { return Err("there is no key".to_owned()) };
    let any = desk.setup.connecto == Some(Connecto::Any) && kind == Kind::Connecto;
    if kind != Kind::ConnectoText {
        let stream = connect(addr, CONNECT).await?;
        let talk: Box<dyn Talk> = Box::new(Json::pair(me.clone()));
        let mut visit = Visit::new(&desk, stream, addr, talk);
        visit.greeting = any.then_some(GREETING);
        let ended = visit.play().await;
        let greeted = !matches!(&ended, Ended::Lost(words) if words == NOT_GREETED);
        if greeted || !any {
            return Ok(ended);
        }
    }
    let stream = connect(addr, CONNECT).await?;
    let mut visit = Visit::new(&desk, stream, addr, Box::new(Text::pair(me)));
    visit.half = true;
    Ok(visit.play().await)
}

/// Which of these protocols a listener on this connection speaks, and what it calls itself if it says so: a
/// look that ends at once.
pub(crate) async fn speaks(mut stream: TcpStream, which: Kind) -> Option<Option<String>> {
    let hello = match which {
        Kind::ConnectoText => "HELLO 1\n".to_owned(),
        _ => format!(
            "{{\"type\":\"Hello\",\"version\":1,\"device_name\":\"scanner-{}\"}}\n\n",
            std::process::id()
        ),
    };
    stream.write_all(hello.as_bytes()).await.ok()?;
    let mut lines = Lines::default();
    let mut buffer = [0; 512];
    let line = timeout(GREETING, async {
        loop {
            if let Some(line) = lines.take().ok()? {
                return Some(line);
            }
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return None,
                Ok(more) => lines.push(buffer.get(..more).unwrap_or_default()),
            }
        }
    });
    let line = line.await.ok()??;
    match which {
        Kind::ConnectoText => line.starts_with("HELLO ").then_some(None),
        _ => Json::greeting(&line).map(Some),
    }
}

/// Begins a sync with a device that may be about to begin one with this one.
pub(super) async fn sync(desk: Arc<Desk>, addr: SocketAddr) -> Result<Ended, String> {
    let Some(me) = myself(&desk) else { return Err("there is no key".to_owned()) };
    let priority = u64::from_be_bytes(super::desk::random()?);
    let stream = connect(addr, CONNECT).await?;
    let ip = addr.ip();
    desk.initiate(ip, priority);
    let mut visit = Visit::new(&desk, stream, addr, Box::new(Json::sync_initiate(me, priority)));
    visit.own = Some(priority);
    let ended = visit.play().await;
    desk.settle(ip);
    Ok(ended)
}

/// Connects, if somebody takes the connection in time.
pub(crate) async fn connect(addr: SocketAddr, limit: Duration) -> Result<TcpStream, String> {
    match timeout(limit, TcpStream::connect(addr)).await {
        Ok(Ok(stream)) => {
            // Answers are short, and each waits for the one before it.
            let _ = stream.set_nodelay(true);
            Ok(stream)
        }
        Ok(Err(error)) => Err(format!("{addr}: {error}")),
        Err(_) => Err(format!("{addr}: no answer")),
    }
}

struct Visit {
    desk: Arc<Desk>,
    stream: TcpStream,
    addr: SocketAddr,
    talk: Box<dyn Talk>,
    lines: Lines,
    /// The other side may end its half of the connection and still listen.
    half: bool,
    /// The number that this side drew, if it began a sync.
    own: Option<u64>,
    /// Under which tag it is installed, as it was known when the person was asked.
    tag: Option<Tag>,
    /// The alias that the person was shown (rule T24).
    alias: Option<Alias>,
    /// The host keys that a person was shown: these and no others are pinned.
    host_keys: Vec<PublicKey>,
    /// This side's person said yes.
    agreed: bool,
    /// Until when there must be something to ask, if the other side came in.
    until: Option<Instant>,
    /// How long the first line may take, if it may be that another protocol is spoken.
    greeting: Option<Duration>,
}

/// What came next.
enum Heard {
    Line(String),
    End,
    Bad(Broken),
    Late,
}

impl Visit {
    fn new(desk: &Arc<Desk>, stream: TcpStream, addr: SocketAddr, talk: Box<dyn Talk>) -> Self {
        Self {
            desk: Arc::clone(desk),
            stream,
            addr,
            talk,
            lines: Lines::default(),
            half: false,
            own: None,
            tag: None,
            alias: None,
            host_keys: Vec::new(),
            agreed: false,
            until: None,
            greeting: None,
        }
    }

    async fn play(mut self) -> Ended {
        let desk = Arc::clone(&self.desk);
        let mut slot = None;
        let mut made = None;
        let mut pending: VecDeque<Step> = self.talk.begin().into();
        loop {
            let Some(step) = pending.pop_front() else {
                let heard = match self.greeting.take() {
                    None => self.hear().await,
                    Some(limit) => match timeout(limit, self.line()).await {
                        Ok(Heard::Line(line)) if line.starts_with('{') => Heard::Line(line),
                        _ => return Ended::Lost(NOT_GREETED.to_owned()),
                    },
                };
                match heard {
                    Heard::Line(line) => {
                        if let Some(ended) = self.tied(&line).await {
                            return ended;
                        }
                        if self.own.is_some() && line.contains("SyncHelloAck") {
                            // It is answered: what comes in from there now is another exchange.
                            desk.settle(self.addr.ip());
                        }
                        pending.extend(self.talk.line(&line));
                    }
                    Heard::End => pending.push_back(Step::Over(self.talk.ended(None))),
                    Heard::Bad(broken) => {
                        pending.push_back(Step::Over(self.talk.ended(Some(broken))));
                    }
                    Heard::Late => {
                        let silent = Some(Broken::Silent);
                        pending.push_back(Step::Over(self.talk.ended(silent)));
                    }
                }
                continue;
            };
            match step {
                Step::Send(line) => {
                    if let Err(error) = self.send(&line).await {
                        if made.is_none() {
                            return Ended::Lost(error);
                        }
                        pending.clear();
                        pending.push_back(Step::Over(self.talk.ended(None)));
                    }
                }
                Step::Ask(_) if desk.setup.expect.is_some() => {
                    // Nothing here proves to be the device that is expected (rule T6).
                    for step in self.talk.answer(false) {
                        if let Step::Send(line) = step {
                            // It ends either way.
                            let _ = self.send(&line).await;
                        }
                    }
                    let words = "Connecto proves no device, and another one is expected";
                    return Ended::Never(words.to_owned());
                }
                Step::Ask(claim) => {
                    if slot.is_none() {
                        let turn = desk.slot.lock();
                        slot = match self.until {
                            None => Some(turn.await),
                            Some(until) => timeout_at(until, turn).await.ok(),
                        };
                    }
                    if slot.is_none() {
                        return Ended::Lost("others were asked about for too long".to_owned());
                    }
                    match self.ask(&claim).await {
                        Ok(yes) => {
                            self.agreed = yes;
                            pending.extend(self.talk.answer(yes));
                            // From here on the other side may be asking its person.
                            self.until = None;
                        }
                        Err(ended) => return ended,
                    }
                }
                Step::Install(claim) => {
                    let result = self.install(&claim).await;
                    let told = match &result {
                        Ok(_) => Ok(()),
                        Err(problem) => Err(problem.message.clone()),
                    };
                    let steps = self.talk.installed(told);
                    match result {
                        Ok(it) => {
                            made = Some(it);
                            pending.extend(steps);
                            if !self.talk.patient() {
                                // What is left to say needs no person, however it is said.
                                self.until = Some(Instant::now() + STEP);
                            }
                        }
                        Err(problem) => {
                            for step in steps {
                                if let Step::Send(line) = step {
                                    // It ends either way.
                                    let _ = self.send(&line).await;
                                }
                            }
                            return Ended::Failed(problem);
                        }
                    }
                }
                Step::Over(end) => {
                    let _ = self.stream.shutdown().await;
                    if let Some(made) = made {
                        desk.tell(super::Event::Installed(made)).await;
                        return match end {
                            End::Done => Ended::Done,
                            End::Refused(words) => Ended::Failed(
                                format!(
                                    "the key was installed here, but not on the other device: {words}"
                                )
                                .into(),
                            ),
                            other => self.over(other),
                        };
                    }
                    return self.over(end);
                }
            }
        }
    }

    async fn send(&mut self, line: &str) -> Result<(), String> {
        let line = format!("{line}\n");
        match timeout(STEP, self.stream.write_all(line.as_bytes())).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it does not read".to_owned()),
        }
    }

    /// The next line. A side that may be asking its person is waited for as long as this run lasts.
    async fn hear(&mut self) -> Heard {
        let step = if self.talk.patient() { PATIENCE } else { STEP };
        // However many lines come: who came in keeps a place for so long only.
        let left = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = left.map_or(step, |left| left.min(step));
        match timeout(wait, self.line()).await {
            Ok(heard) => heard,
            Err(_) => Heard::Late,
        }
    }

    /// Can be dropped without losing anything.
    async fn line(&mut self) -> Heard {
        loop {
            match self.lines.take() {
                Ok(Some(line)) => return Heard::Line(line),
                Ok(None) => {}
                Err(broken) => return Heard::Bad(broken),
            }
            let mut buffer = [0; READ];
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Heard::End,
                Ok(more) => self.lines.push(buffer.get(..more).unwrap_or_default()),
            }
        }
    }

    /// Both sides have begun at once: which exchange goes on?
    async fn tied(&mut self, line: &str) -> Option<Ended> {
        let (theirs, their_key) = Json::priority_of(line)?;
        if self.own.is_some() {
            return None;
        }
        let mine = self.desk.initiated(self.addr.ip())?;
        let key = self.desk.setup.own.as_ref()?.public.to_string();
        if tie((mine, &key), (theirs, &their_key)) == Tie::Serve {
            return None;
        }
        // Ours counts. One that does not know the rule may be unable to answer it.
        let answered = self.desk.settled(self.addr.ip());
        timeout(GRACE, answered).await.is_ok().then_some(Ended::Looked)
    }

    async fn ask(&mut self, claim: &Claim) -> Result<bool, Ended> {
        let desk = Arc::clone(&self.desk);
        let own = desk.setup.own.as_ref().map(|own| &own.public);
        if own.is_some() && own == claim.key.as_ref() {
            return Err(Ended::Never("the other side mirrors this one".to_owned()));
        }
        let logs_in = desk.setup.purpose.logs_in();
        let name = install::connecto_name(claim, self.addr);
        let (mut alias, mut host_key) = (None, None);
        if logs_in {
            self.host_keys = host_keys(self.addr).await;
        }
        let tag = install::connecto_tag(&desk, claim, self.addr, &self.host_keys).await;
        let tag = tag.map_err(Ended::Failed)?;
        self.tag = Some(tag.clone());
        if logs_in {
            alias = Some(install::propose(&desk, tag, &name).await.map_err(Ended::Failed)?);
            self.alias.clone_from(&alias);
            let shown: Vec<&str> = self.host_keys.iter().map(PublicKey::fingerprint).collect();
            host_key = (!shown.is_empty()).then(|| shown.join(", "));
        }
        let own = desk.setup.own.as_ref().map(|own| own.public.fingerprint());
        let theirs = claim.key.as_ref().map(PublicKey::fingerprint);
        let question = Question {
            id: 0,
            device: None,
            name,
            addr: self.addr,
            fingerprint: theirs.or(own).unwrap_or_default().to_owned(),
            sas: String::new(),
            alias: alias.map(|alias| alias.to_string()),
            host_key,
            lets_in: claim.key.is_some(),
        };
        let mut asked = desk.ask(question).await;
        let mut ended = false;
        loop {
            tokio::select! {
                yes = &mut asked.answer => return Ok(yes.unwrap_or(false)),
                heard = self.line(), if !ended => match heard {
                    Heard::End if self.half => ended = true,
                    Heard::Line(line) if line.trim().is_empty() => {}
                    // The last word of the text protocol may come early.
                    Heard::Line(line) if self.half && line.trim() == "BYE" => ended = true,
                    _ => {
                        desk.withdraw(asked.id, "the other side is gone").await;
                        return Err(Ended::Lost("the other side is gone".to_owned()));
                    }
                },
            }
        }
    }

    fn over(&self, end: End) -> Ended {
        match end {
            End::Probe => Ended::Looked,
            End::Done => Ended::Done,
            End::Refused(words) => {
                let said_no = || "the other side said no".to_owned();
                let words = if words.is_empty() { said_no() } else { words };
                if self.agreed || self.desk.setup.purpose == Purpose::Pair {
                    Ended::Refused(words)
                } else {
                    Ended::Never(passed_by("Connecto", self.addr, &words))
                }
            }
            End::Declined => Ended::Declined,
            End::Broken(broken) => Ended::Lost(broken.to_string()),
        }
    }

    async fn install(&mut self, claim: &Claim) -> Result<Made, Problem> {
        let desk = Arc::clone(&self.desk);
        let name = install::connecto_name(claim, self.addr);
        let Some(tag) = self.tag.clone() else {
            return Err("nobody was asked".to_owned().into());
        };
        let mut made = Made {
            device: None,
            name: name.clone(),
            user: desk.setup.home.user().to_string(),
            addr: self.addr,
            port: desk.setup.sshd.port,
            fingerprint: String::new(),
            alias: None,
            lets_in: false,
            verified: false,
        };
        if let Some(own) = &desk.setup.own {
            own.public.fingerprint().clone_into(&mut made.fingerprint);
        }
        if let Some(key) = claim.key.clone() {
            key.fingerprint().clone_into(&mut made.fingerprint);
            install::allow(&desk, tag.clone(), &name, key).await?;
            made.lets_in = true;
        }
        if let (Some(user), true) = (claim.user.clone(), desk.setup.purpose.logs_in()) {
            let Some(alias) = self.alias.clone() else {
                return Err("nobody was asked".to_owned().into());
            };
            let host_keys = self.host_keys.clone();
            if host_keys.is_empty() {
                desk.note(format!(
                    "no SSH server answers at {}: its host key is not pinned, and ssh will ask about it",
                    self.addr.ip()
                ))
                .await;
            }
            (made.user, made.port) = (user.to_string(), SSH_PORT);
            made.alias = Some(alias.to_string());
            let addr = self.addr;
            let there = There { tag, name, alias, addr, port: SSH_PORT, user, host_keys };
            install::reach(&desk, there).await?;
        }
        Ok(made)
    }
}

/// The host keys that answer there now. Nothing vouches for them; a person is shown what they are.
async fn host_keys(addr: SocketAddr) -> Vec<PublicKey> {
    let asked = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("ssh-keyscan");
        command.args(["-T", "3", "-p", "22", "--", &addr.ip().to_string()]);
        command.stdin(Stdio::null()).stderr(Stdio::null()).output()
    });
    let Ok(Ok(output)) = asked.await else { return Vec::new() };
    let text = String::from_utf8_lossy(&output.stdout);
    let mut keys: Vec<PublicKey> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')).take(8) {
        if let Some((_, key)) = line.split_once(' ')
            && let Ok(key) = PublicKey::parse(key)
            && !keys.contains(&key)
        {
            keys.push(key);
        }
    }
    keys
}
