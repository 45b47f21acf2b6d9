//! From a code that a person gave to the invitation that it opens: on the local network, at a place given by
//! hand, and at relays. Who answers proves by its key that it is the issuer; a relay proves nothing, and what
//! it gives is signed.

use std::{collections::BTreeSet, path::PathBuf, time::Instant};

use bytes::Bytes;
use identity::DeviceId;
use pairing::{Side, grants};
use tokio::{sync::mpsc, time::sleep_until};
use wire::{
    code::{Code, Invitation, LookupId, Refusal, Wait},
    device::Message as Say,
    membership::Scope,
};

use super::Question;
use crate::{
    api::{ApiEvent, Failure, FolderMode, JoinCode},
    device::{
        Device, MEMBERS_TOPIC, Online,
        dirs::prepare,
        gone,
        groups::role_name,
        hub::{Hub, HubHandle},
        links::STEP,
        questions::Questions,
        token::expected,
        with_port,
    },
    line::{ConnId, targets::Key},
};

/// How long is looked for a code before a relay's word that there is none counts, in seconds.
const LOOKED: u64 = 10;
/// How long is looked at most if a person says nothing else, in seconds.
const PATIENCE: u64 = 300;
/// Adverts that are dialled for a code at once: names are no help (rule T2).
const MAX_DIALLED: usize = 64;
/// Adverts that are remembered to lead to somebody else.
const MAX_TRIED: usize = 1024;

/// The code that a person gave, until its offer is answered and what comes of it.
pub(in crate::device) struct Asking {
    pub(super) code: Code,
    pub(super) lookup: LookupId,
    pub(super) stream: u64,
    /// The place given by hand.
    at: Option<String>,
    /// Adverts that lead to somebody else.
    tried: BTreeSet<String>,
    /// True once an invitation has come: nothing more is looked for.
    found: bool,
    /// Relays that have not answered yet; what they say of an absent code counts once all have.
    pub(super) relays: usize,
    /// Relays that do not have it.
    pub(super) absent: usize,
    /// Who is to admit this device, once its person has said yes.
    pub(super) issuer: Option<DeviceId>,
    news: mpsc::UnboundedSender<News>,
}

/// What the hub tells the stream's task.
pub(in crate::device) enum News {
    Found(Box<Invitation>),
    /// All relays have answered, and none has it.
    Absent,
    Waits(&'static str),
    Joined(String, PathBuf),
    Refused(Refusal),
    Failed(Failure),
}

impl Asking {
    pub(super) fn tell(&self, news: News) {
        // The stream may be closed.
        let _ = self.news.send(news);
    }
}

impl Device {
    /// Joins by a code.
    pub(in crate::device) async fn join_code(
        &self,
        wish: JoinCode,
    ) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        let (code, relay) = Code::parse(&wish.code).map_err(|error| {
            Failure::usage("code", error)
                .hint("copy the whole code or link that kin share --code shows on the other device")
        })?;
        let expect = expected(wish.expect_device.as_deref())?;
        let checked = {
            let code = code.clone();
            self.hub.with(move |hub| hub.check_code(&code, expect)).await.ok_or_else(gone)?
        };
        checked?;
        if self.hub.with(|hub| hub.net.is_none()).await.ok_or_else(gone)? {
            let discovery = wish.discovery;
            let online = Online { port: 0, port_is_required: false, discovery };
            self.listen(online, MEMBERS_TOPIC).await?;
        }
        let begun = self.hub.with(move |hub| hub.look_for_code(code, relay, wish, expect));
        begun.await.ok_or_else(gone)?
    }
}

impl Hub {
    fn check_code(&self, code: &Code, expect: Option<DeviceId>) -> Result<(), Failure> {
        if code.is_issued_by(&self.me) {
            return Err(Failure::usage("own_code", "this code is this device's own")
                .hint("give it to somebody else's device: kin join - there, then paste it"));
        }
        if self.codes.asking.is_some() {
            return Err(Failure::failed("busy", "another code is being looked for already")
                .hint("finish that, or stop it with Ctrl-C"));
        }
        if expect.is_some_and(|expected| !code.is_issued_by(&expected)) {
            return Err(Failure::usage(
                "other_device",
                "the code is not that of the expected device",
            )
            .hint("compare with what kin id prints on the device that issued it"));
        }
        Ok(())
    }

    fn look_for_code(
        &mut self,
        code: Code,
        relay: Option<String>,
        wish: JoinCode,
        expect: Option<DeviceId>,
    ) -> Result<mpsc::Receiver<ApiEvent>, Failure> {
        self.check_code(&code, expect)?;
        let (events, told) = mpsc::channel(64);
        let (news, heard) = mpsc::unbounded_channel();
        self.codes.streams += 1;
        let stream = self.codes.streams;
        let lookup = code.keys().lookup;
        let at = wish.at.as_deref().map(with_port);
        let asking = Asking {
            code,
            lookup,
            stream,
            at: at.clone(),
            tried: BTreeSet::new(),
            found: false,
            relays: 0,
            absent: 0,
            issuer: None,
            news,
        };
        self.codes.asking = Some(asking);
        let relays = self.look_at_relays(lookup, relay, stream);
        if let Some(asking) = &mut self.codes.asking {
            asking.relays = relays;
        }
        let patience = wish.timeout.unwrap_or(PATIENCE).clamp(1, 24 * 3600);
        let task = Task {
            hub: self.handle.clone(),
            questions: self.questions.of_another(),
            events,
            stream,
            ask: expect.is_none(),
            until: Instant::now() + std::time::Duration::from_secs(patience),
            settled: Instant::now() + std::time::Duration::from_secs(LOOKED.min(patience)),
            dir: wish.dir,
            under: wish.under,
            mode: wish.mode,
        };
        tokio::spawn(task.run(heard));
        if let (Some(net), Some(at)) = (&mut self.net, at) {
            net.targets.add(Key::Manual(at), Vec::new(), None, Instant::now());
        }
        self.look_for_members();
        // Who is linked already may be asked at once.
        let linked: Vec<(ConnId, DeviceId)> =
            self.conns.iter().map(|(id, conn)| (*id, conn.line.peer)).collect();
        for (id, peer) in linked {
            self.ask_invitation(id, &peer);
        }
        Ok(told)
    }

    /// True while a code is looked for, or what comes of it.
    #[cfg(test)]
    pub(in crate::device) fn asks_for_code(&self) -> bool {
        self.codes.asking.is_some()
    }

    /// True if a code is looked for that this device may have issued.
    pub(in crate::device) fn looks_for(&self, device: &DeviceId) -> bool {
        let asking = self.codes.asking.as_ref();
        asking.is_some_and(|asking| !asking.found && asking.code.is_issued_by(device))
    }

    /// Adverts do not say whose they are to who does not know the device: while a code is looked for, all are
    /// dialled, and the key at the other end says whether it is the issuer's.
    pub(in crate::device) fn dial_for_code(&mut self) {
        let Some(asking) = self.codes.asking.as_ref().filter(|asking| !asking.found) else {
            return;
        };
        let Some(net) = &mut self.net else { return };
        let fresh = net.adverts.iter().filter(|(instance, _)| !asking.tried.contains(*instance));
        for (instance, advert) in fresh.take(MAX_DIALLED) {
            let key = Key::Advert(instance.clone());
            net.targets.add(key, advert.addrs.clone(), None, Instant::now());
        }
    }

    /// Somebody else is at an advert that was dialled for a code.
    pub(in crate::device) fn tried_for_code(&mut self, key: &Key, peer: &DeviceId) {
        if let (Some(asking), Key::Advert(instance)) = (&mut self.codes.asking, key)
            && !asking.code.is_issued_by(peer)
            && asking.tried.len() < MAX_TRIED
        {
            asking.tried.insert(instance.clone());
        }
    }

    /// Asks the other end for the invitation of the code that is looked for, if it is its issuer.
    pub(in crate::device) fn ask_invitation(&mut self, id: ConnId, peer: &DeviceId) {
        if !self.looks_for(peer) {
            return;
        }
        let Some(asking) = &self.codes.asking else { return };
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.port.is_some()) else { return };
        if !conn.is_accepted() {
            conn.deadline = Some(Instant::now() + STEP);
        }
        conn.asked.ask(Question::Lookup(asking.lookup));
        conn.say(Say::Lookup { lookup: asking.lookup });
    }

    /// An issuer answered on a link.
    pub(in crate::device) fn heard_invitation(&mut self, id: ConnId, sealed: &Bytes) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        let peer = conn.line.peer;
        let lookup = match conn.asked.invitation(sealed.is_empty()) {
            Some(Question::Hello(lookup)) => {
                // It knows nothing any more of the code that it was said hello with.
                self.heard_refused(&peer, &lookup, Refusal::Unknown);
                return;
            }
            Some(Question::Lookup(lookup)) => lookup,
            None => return,
        };
        let is_asked = self.codes.asking.as_ref().is_some_and(|asking| asking.lookup == lookup);
        if !is_asked || !self.looks_for(&peer) {
            return;
        }
        if let Some(conn) = self.conns.get_mut(&id)
            && !conn.is_accepted()
        {
            conn.deadline = None;
        }
        if sealed.is_empty() {
            // Its own word: no relay could say that.
            if let Some(asking) = &self.codes.asking {
                asking.tell(News::Refused(Refusal::Unknown));
            }
            return;
        }
        self.found_invitation(sealed, Some(peer));
    }

    /// What was found under the code's lookup, on a link or at a relay. True if it is what the code opens.
    pub(in crate::device) fn found_invitation(
        &mut self,
        sealed: &[u8],
        from: Option<DeviceId>,
    ) -> bool {
        let Some(asking) = self.codes.asking.as_mut().filter(|asking| !asking.found) else {
            return false;
        };
        match Invitation::open(sealed, &asking.code) {
            Ok(invitation) if from.is_none_or(|from| from == invitation.issuer) => {
                asking.found = true;
                asking.tell(News::Found(Box::new(invitation)));
                self.stop_looking();
                true
            }
            Ok(_) => false,
            Err(error) => {
                tracing::debug!(%error, "an invitation was passed over");
                false
            }
        }
    }

    /// True while a code is being looked for.
    pub(in crate::device) fn still_asks(&self, stream: u64) -> bool {
        let asking = self.codes.asking.as_ref();
        asking.is_some_and(|asking| asking.stream == stream && !asking.found)
    }

    /// A relay has answered that it does not have the code, or could not be asked.
    pub(in crate::device) fn relay_answered(&mut self, stream: u64, absent: bool) {
        let Some(asking) = self.codes.asking.as_mut().filter(|one| one.stream == stream) else {
            return;
        };
        asking.relays = asking.relays.saturating_sub(1);
        asking.absent += usize::from(absent);
        if asking.relays == 0 && asking.absent > 0 {
            asking.tell(News::Absent);
        }
    }

    /// Nothing more is dialled for a code.
    fn stop_looking(&mut self) {
        let at = self.codes.asking.as_ref().and_then(|asking| asking.at.clone());
        if let Some(net) = &mut self.net {
            net.targets.retain_known();
            if let Some(at) = at {
                net.targets.remove(&Key::Manual(at));
            }
        }
        self.look_for_members();
    }

    fn end_asking(&mut self, stream: u64) {
        if self.codes.asking.as_ref().is_some_and(|asking| asking.stream == stream) {
            self.stop_looking();
            self.codes.asking = None;
        }
    }
}

/// Looks, asks the person, and tells what happens.
struct Task {
    hub: HubHandle,
    questions: Questions,
    events: mpsc::Sender<ApiEvent>,
    stream: u64,
    ask: bool,
    /// When is looked no more.
    until: Instant,
    /// When a relay's word that there is no such code is enough.
    settled: Instant,
    dir: PathBuf,
    /// The folder gets a directory of its name in `dir`.
    under: bool,
    mode: FolderMode,
}

impl Task {
    async fn tell(&self, event: ApiEvent) {
        // Whoever asked may have gone; that is seen elsewhere.
        let _ = self.events.send(event).await;
    }

    async fn run(self, mut news: mpsc::UnboundedReceiver<News>) {
        let last = self.course(&mut news).await;
        let stream = self.stream;
        self.hub.with(move |hub| hub.end_asking(stream)).await;
        if let Some(last) = last {
            self.tell(last).await;
        }
    }

    async fn course(&self, news: &mut mpsc::UnboundedReceiver<News>) -> Option<ApiEvent> {
        let invitation = match self.look(news).await? {
            Ok(invitation) => invitation,
            Err(last) => return Some(last),
        };
        let offer = invitation.clone();
        match self.hub.with(move |hub| hub.in_the_way_of(&offer)).await? {
            Some(News::Failed(failure)) => return Some(failed(failure)),
            Some(News::Refused(why)) => {
                return Some(ApiEvent::Refused { reason: why.word().to_owned() });
            }
            _ => {}
        }
        if self.ask && !self.consent(&invitation, news).await? {
            return Some(ApiEvent::Refused { reason: "you said no".to_owned() });
        }
        let dir = match self.place(&invitation) {
            Ok(dir) => dir,
            Err(failure) => return Some(failed(failure)),
        };
        if let Err(failure) = prepare(&self.hub, &dir).await {
            return Some(failed(failure));
        }
        let (stream, mode, wanted) = (self.stream, self.mode, invitation.clone());
        let events = self.events.clone();
        let begun = self.hub.with(move |hub| {
            // Whoever has left is told that nothing was begun.
            (!events.is_closed()).then(|| hub.begin_code_join(stream, &wanted, dir, mode))
        });
        if let Err(failure) = begun.await?? {
            return Some(failed(failure));
        }
        // From here on it goes on without anybody who looks.
        loop {
            let one = tokio::select! {
                one = news.recv() => one?,
                () = self.events.closed() => return None,
            };
            match one {
                News::Waits(reason) => {
                    let device = invitation.issuer.to_string();
                    self.tell(ApiEvent::Pending { device, reason: reason.to_owned() }).await;
                }
                News::Joined(folder, dir) => {
                    let role = role_name(invitation.role).to_owned();
                    return Some(ApiEvent::Joined { folder, dir, role });
                }
                News::Refused(why) => {
                    return Some(ApiEvent::Refused { reason: why.word().to_owned() });
                }
                News::Failed(failure) => return Some(failed(failure)),
                News::Found(_) | News::Absent => {}
            }
        }
    }

    /// Looks until the invitation is there; `None` if nobody waits any more.
    async fn look(
        &self,
        news: &mut mpsc::UnboundedReceiver<News>,
    ) -> Option<Result<Invitation, ApiEvent>> {
        let mut absent = false;
        let mut told = false;
        loop {
            // A relay may not have what its issuer on this very network would tell.
            let until = if absent { self.settled.min(self.until) } else { self.until };
            let soon = if told { until } else { until.min(self.settled) };
            tokio::select! {
                one = news.recv() => match one? {
                    News::Found(invitation) => return Some(Ok(*invitation)),
                    News::Absent => absent = true,
                    News::Refused(why) => {
                        return Some(Err(ApiEvent::Refused { reason: why.word().to_owned() }));
                    }
                    News::Failed(failure) => return Some(Err(failed(failure))),
                    News::Waits(_) | News::Joined(..) => {}
                },
                () = self.events.closed() => return None,
                () = sleep_until(soon.into()) => {
                    if Instant::now() < until {
                        told = true;
                        let reason = "looking".to_owned();
                        self.tell(ApiEvent::Pending { device: String::new(), reason }).await;
                    } else if absent {
                        let reason = Refusal::Unknown.word().to_owned();
                        return Some(Err(ApiEvent::Refused { reason }));
                    } else {
                        return Some(Err(ApiEvent::Timeout));
                    }
                }
            }
        }
    }

    /// Shows what the code is for, and asks (rule T9); `None` if nobody looks any more.
    async fn consent(
        &self,
        invitation: &Invitation,
        news: &mut mpsc::UnboundedReceiver<News>,
    ) -> Option<bool> {
        let folders = Scope::List(vec![invitation.folder]);
        let said = grants(invitation.role, &folders, Side::Joining).join(" ");
        let mut asked = self.questions.ask();
        self.tell(ApiEvent::Offer {
            id: asked.id,
            folder: crate::device::groups::hex(&invitation.folder.0),
            name: invitation.folder_name.as_str().to_owned(),
            from: invitation.issuer_name.as_str().to_owned(),
            device: invitation.issuer.to_string(),
            role: role_name(invitation.role).to_owned(),
            group: invitation.group_name.as_str().to_owned(),
            expires: invitation.expires,
            grants: said.trim_end_matches('.').to_owned(),
        })
        .await;
        loop {
            tokio::select! {
                // One that was taken back has no answer.
                yes = &mut asked.answer => return yes.ok(),
                one = news.recv() => { one?; }
                () = self.events.closed() => {
                    self.questions.withdraw(asked.id);
                    return None;
                }
            }
        }
    }

    /// Where the folder is to be. Another device chose its name: only a plain name becomes one of a directory.
    fn place(&self, invitation: &Invitation) -> Result<PathBuf, Failure> {
        if !self.under {
            return Ok(self.dir.clone());
        }
        let name = invitation.folder_name.as_str();
        let plain =
            wire::RelPath::parse(name).is_ok() && !name.contains('/') && !name.starts_with('.');
        match plain {
            true => Ok(self.dir.join(name)),
            false => {
                Err(Failure::usage("name", format!("{name} cannot be the name of a directory"))
                    .hint("give the directory, too: kin join - DIR"))
            }
        }
    }
}

fn failed(failure: Failure) -> ApiEvent {
    let Failure { kind, message, hint, .. } = failure;
    ApiEvent::Error { kind, message, hint }
}

/// The word for what a join waits for.
pub(super) fn waits(why: Wait) -> &'static str {
    match why {
        Wait::Asked => "asked",
        Wait::Suspended => "suspended",
    }
}
