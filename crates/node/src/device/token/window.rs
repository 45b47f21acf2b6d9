//! The device that shows a token: its window, the requests in it, and the admission.

use std::time::{Duration, Instant};

use identity::{DeviceId, Secret};
use pairing::{
    Side, grants,
    token::{Closed, Gone, Request, TokenWindow, WindowStep},
};
use tokio::{sync::mpsc, time::sleep_until};
use wire::{
    device::Purpose,
    envelope::Letter,
    membership::{Action, Ceremony, FolderId, GroupId, Role, Scope},
    pair::{Decline, MAX_TOKEN_FOLDERS, RequestId, Terms, Token, WindowId},
};

use super::{super::groups::hex, expected};
use crate::{
    api::{ApiEvent, Failure, PairToken},
    device::{
        gone,
        groups::{Group, role, role_name},
        hub::{Hub, HubHandle, random, wall},
        links::STEP,
        questions::Questions,
    },
};

/// How long a window is open if nothing else is said, and at most, in seconds.
const SECONDS: u64 = 300;
const MAX_SECONDS: u64 = 86_400;

/// A window, as the hub holds it.
pub(super) struct Admitting {
    window: TokenWindow,
    /// When the clock of `window` stood at 0.
    opened: Instant,
    stream: u64,
    news: mpsc::UnboundedSender<News>,
    /// False once it is closed; then it only answers what it has answered before.
    live: bool,
    admitted: Option<DeviceId>,
}

/// What the hub tells the stream's task; bounded by the requests of a window.
enum News {
    Ask(Request),
    Gone(RequestId, &'static str),
    Waiting(Request),
    /// The admission is durable.
    Admitted(Request),
    /// The device that was admitted has the log.
    Shared(String),
    /// The device that was admitted says no after all.
    TooLate,
    Over(ApiEvent),
}

impl Admitting {
    /// True while a person looks at it.
    pub(super) fn is_live(&self) -> bool {
        self.live || !self.news.is_closed()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn shared(&self, device: &DeviceId, group: &GroupId, label: &str) {
        if self.admitted == Some(*device) && self.window.terms().group == *group {
            self.tell(News::Shared(label.to_owned()));
        }
    }

    fn tell(&self, news: News) {
        // The stream may be closed.
        let _ = self.news.send(news);
    }
}

fn why(gone: Gone) -> &'static str {
    match gone {
        Gone::TheySaidNo => "its person said no",
        Gone::AskedAgain => "it asked anew",
        Gone::Broken => "it broke the ceremony",
        Gone::Answered => "the window is closed, or another device was chosen",
    }
}

impl Hub {
    pub(super) fn open_token_window(
        &mut self,
        options: &PairToken,
    ) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        self.free_to_pair()?;
        let port = self.net.as_ref().map(|net| net.port).ok_or_else(gone)?;
        let seconds = options.window.unwrap_or(SECONDS);
        if !(1..=MAX_SECONDS).contains(&seconds) {
            return Err(Failure::usage("bad_window", "a window is open for 1 s to 24 h"));
        }
        let role = role(options.role.as_deref().unwrap_or("admin"))?;
        let expect = expected(options.expect_device.as_deref())?;
        let has_none = self.groups.iter().next().is_none();
        let group = match (&options.group, has_none) {
            (None, true) => None,
            (text, _) => Some(self.group_or_used(text.as_deref())?),
        };
        let folders = self.window_scope(group.as_ref(), options.folders.as_deref())?;
        let group = match group {
            Some(group) => group,
            None => self.make_group(None)?,
        };
        let (device, inbox) = (self.me, self.inbox.id());
        let window = WindowId(random()?);
        let terms = Terms { device, inbox, window, group, role, folders };
        let token = Token::new(terms, Secret::new(random()?), link::own_addresses(port))
            .with_mail(self.own_mail().first());
        let broken = |error: wire::pair::TokenError| Failure::failed("internal", error);
        let (text, link) = (token.to_text().map_err(broken)?, token.to_link().map_err(broken)?);
        let (events, told) = mpsc::channel(64);
        let (news, heard) = mpsc::unbounded_channel();
        self.tokens.streams += 1;
        let (stream, opened) = (self.tokens.streams, Instant::now());
        self.tokens.window = Some(Admitting {
            window: TokenWindow::open(&token, 0, seconds * 1000),
            opened,
            stream,
            news,
            live: true,
            admitted: None,
        });
        // There is room: nothing was told before.
        let _ = events.try_send(ApiEvent::Token {
            token: text.expose().clone(),
            link: link.expose().clone(),
            expires: wall().saturating_add(i64::try_from(seconds).unwrap_or(i64::MAX)),
        });
        let task = Task {
            hub: self.handle.clone(),
            questions: self.questions.of_another(),
            events,
            stream,
            grants: self.what_it_grants(&token.terms),
            role: token.terms.role,
            expect,
            end: opened + Duration::from_secs(seconds),
            open: Vec::new(),
        };
        tokio::spawn(task.run(heard));
        Ok(told)
    }

    /// The folders that a token lists. Without a group there are none yet.
    fn window_scope(
        &self,
        group: Option<&GroupId>,
        wanted: Option<&[String]>,
    ) -> Result<Scope, Failure> {
        let manifest = group.and_then(|group| self.groups.get(group)).map(Group::manifest);
        if manifest.as_ref().is_some_and(|manifest| !manifest.is_admin(&self.me)) {
            return Err(Failure::failed("not_admin", "only an admin of the group lets others in")
                .hint("run kin pair --token on an admin's device: kin devices lists them"));
        }
        let Some(wanted) = wanted else { return Ok(Scope::All) };
        let mut listed = Vec::new();
        for text in wanted {
            let named = |(id, name): &(FolderId, String)| {
                name == text || (text.len() >= 4 && hex(&id.0).starts_with(text.as_str()))
            };
            let known = manifest.iter().flat_map(|manifest| &manifest.folders);
            let known = known.map(|(id, folder)| (*id, folder.name.as_str().to_owned()));
            let found: Vec<FolderId> = known.filter(named).map(|(id, _)| id).collect();
            match found[..] {
                [one] => listed.push(one),
                [] => {
                    let message = format!("the group has no folder {text}");
                    return Err(Failure::usage("no_folder", message).hint("kin folders"));
                }
                _ => {
                    let message = format!("the group has several folders {text}");
                    return Err(Failure::usage("ambiguous", message)
                        .hint("give the beginning of its id: kin folders --json"));
                }
            }
        }
        listed.sort_unstable();
        listed.dedup();
        if listed.len() > MAX_TOKEN_FOLDERS {
            let message = format!("a token lists at most {MAX_TOKEN_FOLDERS} folders");
            return Err(Failure::usage("too_many_folders", message)
                .hint("list fewer, or leave --folders out: then it is all of them"));
        }
        Ok(Scope::List(listed))
    }

    /// What a yes grants (rule T9), with the names of what is listed.
    fn what_it_grants(&self, terms: &Terms) -> String {
        let mut said = grants(terms.role, &terms.folders, Side::Admitting).join(" ");
        let Some(held) = self.groups.get(&terms.group) else { return said };
        let manifest = held.manifest();
        if let Scope::List(list) = &terms.folders {
            let names = list.iter().filter_map(|folder| manifest.folders.get(folder));
            let names: Vec<&str> = names.map(|folder| folder.name.as_str()).collect();
            if !names.is_empty() {
                said = format!("{said} The folders: {}.", names.join(", "));
            }
        }
        format!("{said} The group is {}", held.label)
    }

    /// True if the letter belongs to a request that is not over.
    pub(in crate::device) fn window_heard(&mut self, letter: &Letter) -> bool {
        let Some(fresh) = self.fresh_nonce() else { return false };
        self.with_window(|admitting| {
            let now = admitting.now();
            admitting.window.handle(letter, fresh, now)
        });
        self.tokens.window.as_ref().is_some_and(|it| it.window.hears(&letter.author))
    }

    /// Has the window do something, and does what comes of it.
    fn with_window(&mut self, act: impl FnOnce(&mut Admitting) -> Vec<WindowStep>) {
        let Some(mut admitting) = self.tokens.window.take() else { return };
        let steps = act(&mut admitting);
        self.window_steps(&mut admitting, steps);
        for conn in self.conns.values_mut() {
            let asks = conn.purpose == Some(Purpose::Join) && !conn.line.dialled;
            if !asks || conn.is_accepted() {
                continue;
            }
            if admitting.window.hears(&conn.line.peer) {
                // A person thinks; the link's own sign of life goes on.
                conn.deadline = None;
            } else if conn.deadline.is_none() {
                conn.deadline = Some(Instant::now() + STEP);
            }
        }
        self.tokens.window = Some(admitting);
    }

    fn window_steps(&mut self, admitting: &mut Admitting, mut steps: Vec<WindowStep>) {
        while !steps.is_empty() {
            let mut next = Vec::new();
            for step in steps {
                match step {
                    WindowStep::Send(outgoing) => self.post(&outgoing),
                    WindowStep::Ask(request) => {
                        let group = admitting.window.terms().group;
                        let held = self.groups.get(&group);
                        let device = &request.card.device;
                        if held.is_some_and(|held| held.manifest().is_member(device)) {
                            let declined = admitting.window.decline(request.id, Decline::Member);
                            next.extend(declined.unwrap_or_default());
                        } else {
                            admitting.tell(News::Ask(request));
                        }
                    }
                    WindowStep::Gone { request, why: Gone::TheySaidNo }
                        if admitting.admitted == Some(request.card.device) =>
                    {
                        admitting.tell(News::TooLate);
                    }
                    WindowStep::Gone { request, why: reason } => {
                        admitting.tell(News::Gone(request.id, why(reason)));
                    }
                    WindowStep::Admit(request) => next.extend(self.admit_one(admitting, request)),
                    WindowStep::Closed(closed) => {
                        admitting.live = false;
                        let over = |reason: &str| ApiEvent::Refused { reason: reason.to_owned() };
                        match closed {
                            // Said where it came about.
                            Closed::Admitted | Closed::Failed | Closed::Person => {}
                            Closed::Time => admitting.tell(News::Over(ApiEvent::Timeout)),
                            Closed::TheyLeft => {
                                admitting.tell(News::Over(over("the other side said no")));
                            }
                        }
                    }
                }
            }
            steps = next;
        }
    }

    /// Both people said yes: the one place where a token lets a device in.
    fn admit_one(&mut self, admitting: &mut Admitting, request: Request) -> Vec<WindowStep> {
        let terms = admitting.window.terms().clone();
        let card = request.card.clone();
        let action = Action::Admit {
            device: card.device,
            inbox: card.inbox,
            name: card.name,
            role: terms.role,
            folders: terms.folders,
            ceremony: Ceremony::Token,
        };
        admitting.admitted = Some(card.device);
        // Durable when it returns (rule T12); one that belongs to the group already is not written.
        let steps = match self.admit(Some(terms.group), action) {
            Ok(group) => {
                let held = self.groups.get(&group);
                let heads = held.map(|held| held.log().heads()).unwrap_or_default();
                admitting.tell(News::Admitted(request));
                admitting.window.admitted(heads)
            }
            Err(failure) => {
                admitting.admitted = None;
                admitting.tell(News::Over(ApiEvent::Refused { reason: failure.message }));
                let steps = admitting.window.failed(Decline::Closed);
                // What could not be stored may be on the disk all the same: nobody is told that it is not.
                let is_unknown = failure.kind == "state";
                steps.map(|mut steps| {
                    steps.retain(|step| !is_unknown || !matches!(step, WindowStep::Send(_)));
                    steps
                })
            }
        };
        steps.unwrap_or_default()
    }

    /// A person answered a request.
    fn answer_request(&mut self, stream: u64, id: RequestId, yes: bool) {
        self.with_window(|admitting| {
            if admitting.stream != stream {
                return Vec::new();
            }
            let now = admitting.now();
            let waits = admitting.window.requests().into_iter().find(|request| request.id == id);
            let steps = match yes {
                true => admitting.window.accept(id, now),
                false => admitting.window.decline(id, Decline::Person),
            };
            let steps = steps.unwrap_or_default();
            let admits = steps.iter().any(|step| matches!(step, WindowStep::Admit(_)));
            if let Some(request) = waits.filter(|_| yes && !admits) {
                admitting.tell(News::Waiting(request));
            }
            steps
        });
    }

    /// Closes the window. False if none was open.
    pub(in crate::device) fn close_token_window(&mut self, reason: &str) -> bool {
        if !self.tokens.window.as_ref().is_some_and(|it| it.live) {
            return false;
        }
        self.with_window(|admitting| {
            let steps = admitting.window.cancel();
            if !steps.is_empty() {
                let reason = reason.to_owned();
                admitting.tell(News::Over(ApiEvent::Refused { reason }));
            }
            steps
        });
        true
    }

    /// When the window is to be looked at again.
    pub(in crate::device) fn token_time(&self) -> Option<Instant> {
        let admitting = self.tokens.window.as_ref().filter(|it| it.live)?;
        let at = admitting.window.deadline()?;
        Some(admitting.opened + Duration::from_millis(at))
    }

    pub(in crate::device) fn tick_token(&mut self) {
        if self.token_time().is_some_and(|at| at <= Instant::now()) {
            self.with_window(|admitting| {
                let now = admitting.now();
                admitting.window.tick(now)
            });
        }
    }
}

/// Asks the person, and tells what happens.
struct Task {
    hub: HubHandle,
    questions: Questions,
    events: mpsc::Sender<ApiEvent>,
    stream: u64,
    grants: String,
    role: Role,
    expect: Option<DeviceId>,
    end: Instant,
    /// Requests that are shown, and their questions.
    open: Vec<(RequestId, u32)>,
}

impl Task {
    async fn tell(&self, event: ApiEvent) {
        // Whoever asked may have gone; that is seen elsewhere.
        let _ = self.events.send(event).await;
    }

    async fn run(mut self, mut news: mpsc::UnboundedReceiver<News>) {
        let (answered, mut answers) = mpsc::unbounded_channel::<(RequestId, bool)>();
        let last = loop {
            tokio::select! {
                () = self.events.closed() => break None,
                Some((request, yes)) = answers.recv() => {
                    self.open.retain(|(id, _)| *id != request);
                    self.answer(request, yes);
                }
                one = news.recv() => match one {
                    Some(News::Ask(request)) => self.ask(request, &answered).await,
                    Some(News::Gone(request, reason)) => self.withdraw(request, reason).await,
                    Some(News::Waiting(request)) => {
                        let name = request.card.name.as_str().to_owned();
                        self.tell(ApiEvent::Waiting { name }).await;
                    }
                    Some(News::Admitted(request)) => break self.admitted(request, &mut news).await,
                    Some(News::Over(event)) => break Some(event),
                    Some(News::Shared(_) | News::TooLate) => {}
                    None => {
                        break Some(ApiEvent::Refused { reason: "this device stops".to_owned() });
                    }
                }
            }
        };
        // Another pairing may begin as soon as the end of this one is told.
        drop(news);
        self.withdraw_all("the window is closed").await;
        let stream = self.stream;
        self.hub.send(move |hub| {
            if hub.tokens.window.as_ref().is_some_and(|it| it.stream == stream) {
                hub.close_token_window("nobody waits any more");
            }
        });
        if let Some(last) = last {
            self.tell(last).await;
        }
    }

    fn answer(&self, request: RequestId, yes: bool) {
        let stream = self.stream;
        self.hub.send(move |hub| hub.answer_request(stream, request, yes));
    }

    async fn ask(&mut self, request: Request, answered: &mpsc::UnboundedSender<(RequestId, bool)>) {
        if let Some(expected) = self.expect {
            return self.answer(request.id, expected == request.card.device);
        }
        let asked = self.questions.ask_beside();
        self.open.push((request.id, asked.id));
        let (id, answered) = (request.id, answered.clone());
        self.tell(ApiEvent::Request {
            id: asked.id,
            device: request.card.device.to_string(),
            name: request.card.name.as_str().to_owned(),
            sas: request.sas.to_string(),
            grants: self.grants.clone(),
        })
        .await;
        tokio::spawn(async move {
            if let Ok(yes) = asked.answer.await {
                let _ = answered.send((id, yes));
            }
        });
    }

    async fn withdraw_all(&mut self, reason: &str) {
        while let Some((request, _)) = self.open.first() {
            self.withdraw(*request, reason).await;
        }
    }

    async fn withdraw(&mut self, request: RequestId, reason: &str) {
        let at = self.open.iter().position(|(id, _)| *id == request);
        let Some((_, id)) = at.map(|at| self.open.remove(at)) else { return };
        // One that was answered a moment ago is as good as taken back: its answer has no place any more.
        self.questions.withdraw(id);
        self.tell(ApiEvent::Withdrawn { id, reason: reason.to_owned() }).await;
    }

    /// The admission is durable: what remains to be asked (rule T9), and the log on its way.
    async fn admitted(
        &mut self,
        request: Request,
        news: &mut mpsc::UnboundedReceiver<News>,
    ) -> Option<ApiEvent> {
        let (device, name) = (request.card.device, request.card.name.as_str().to_owned());
        self.withdraw_all("another device was let in").await;
        let mut ssh = None;
        if self.expect.is_none() {
            let asks = super::ask_about_ssh(&self.questions, &self.events, device, &name);
            ssh = asks.await;
            if let Some(answers) = ssh {
                super::keep_ssh(&self.hub, device, answers);
            }
        }
        let until = self.end.max(Instant::now() + STEP);
        let mut waiting = false;
        loop {
            if !waiting && news.is_empty() {
                waiting = true;
                self.tell(ApiEvent::Waiting { name: name.clone() }).await;
            }
            let next = tokio::select! {
                one = news.recv() => one,
                () = self.events.closed() => return None,
                () = sleep_until(until.into()) => {
                    // It is a member, and hears of it when it comes back (rule T8).
                    return Some(ApiEvent::Pending { device: device.to_string(), reason: String::new() });
                }
            };
            match next {
                Some(News::Shared(group)) => {
                    super::settle_ssh(&self.hub, &self.events, device, ssh).await;
                    let (device, role) = (device.to_string(), role_name(self.role).to_owned());
                    return Some(ApiEvent::Paired { device, name, group, role });
                }
                Some(News::TooLate) => {
                    let message = format!("{name} said no after it was let in");
                    let hint = format!("to put it out again: kin devices remove {name}");
                    self.tell(ApiEvent::Error { kind: "too_late".to_owned(), message, hint }).await;
                }
                Some(_) => {}
                None => {
                    return Some(ApiEvent::Pending {
                        device: device.to_string(),
                        reason: String::new(),
                    });
                }
            }
        }
    }
}
