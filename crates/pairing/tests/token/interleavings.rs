//! Whatever is delivered, when, and how often: nobody is admitted without both people's yes.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

#[derive(Clone, Debug)]
enum Event {
    /// One of the letters that were ever sent arrives, again perhaps.
    Deliver(prop::sample::Index),
    /// A device says what it has to say.
    Say(u8),
    /// A device's person answers.
    Answer(u8, bool),
    /// The admitting person answers to one of all requests there could be.
    Accept(u8),
    Decline(u8),
    /// The admission is written, or cannot be.
    Written(bool),
    Cancel,
    Later(u64),
    /// Somebody sends a letter of another one as its own.
    Forge(prop::sample::Index, u8),
}

fn event() -> impl Strategy<Value = Event> {
    let number = || 1..=8_u8;
    prop_oneof![
        20 => any::<prop::sample::Index>().prop_map(Event::Deliver),
        6 => number().prop_map(Event::Say),
        6 => (number(), prop::bool::weighted(0.8)).prop_map(|(who, yes)| Event::Answer(who, yes)),
        3 => number().prop_map(Event::Accept),
        1 => number().prop_map(Event::Decline),
        2 => prop::bool::weighted(0.8).prop_map(Event::Written),
        1 => Just(Event::Cancel),
        1 => (0..WINDOW_MS / 4).prop_map(Event::Later),
        2 => (any::<prop::sample::Index>(), number()).prop_map(|(at, who)| Event::Forge(at, who)),
    ]
}

/// What was sent, by whom, to whom.
struct Sent {
    by: u8,
    to: u8,
    message: Message,
}

struct World {
    window: TokenWindow,
    joins: Vec<TokenJoin>,
    right: Vec<bool>,
    letters: Vec<Sent>,
    now: u64,
    fresh: u8,
    accepted: BTreeSet<RequestId>,
    said_yes: BTreeSet<RequestId>,
    shown: Vec<Request>,
    admit: Vec<Request>,
}

impl World {
    fn number(&self, id: RequestId) -> u8 {
        let at = self.joins.iter().position(|join| join.id() == id).expect("a request of ours");
        u8::try_from(at + 1).expect("eight")
    }

    fn window_did(&mut self, steps: Vec<WindowStep>) {
        for step in steps {
            match step {
                WindowStep::Send(outgoing) => {
                    let to = (1..=8).find(|n| card(*n).device == outgoing.to.device);
                    let to = to.expect("one of those who asked");
                    assert!(self.right[usize::from(to - 1)], "an answer to a wrong secret");
                    assert_eq!(outgoing.to, card(to).recipient());
                    self.letters.push(Sent { by: ADMITTER, to, message: outgoing.message });
                }
                WindowStep::Ask(request) => {
                    assert!(!self.shown.iter().any(|shown| shown.id == request.id), "asked twice");
                    let number = self.number(request.id);
                    assert_eq!(request.card, card(number));
                    let sas = self.joins[usize::from(number - 1)].sas();
                    assert_eq!(sas, Some(request.sas), "two strings");
                    self.shown.push(request);
                }
                WindowStep::Admit(request) => {
                    assert!(self.accepted.contains(&request.id), "admitted without an accept");
                    assert!(self.said_yes.contains(&request.id), "admitted without its consent");
                    assert!(self.shown.contains(&request), "admitted unseen");
                    self.admit.push(request);
                    assert_eq!(self.admit.len(), 1, "two admissions");
                }
                WindowStep::Gone { request, .. } => assert!(self.shown.contains(&request)),
                WindowStep::Closed(_) => assert!(!self.window.is_open()),
            }
        }
    }

    fn join_did(&mut self, who: u8, steps: Vec<JoinStep>) {
        for step in steps {
            let join = &self.joins[usize::from(who - 1)];
            match step {
                JoinStep::Send(outgoing) => {
                    let message = outgoing.message;
                    self.letters.push(Sent { by: who, to: ADMITTER, message });
                }
                JoinStep::Admitted(_) => {
                    assert!(join.agreed(), "in without its person's yes");
                    assert_eq!(self.admit.first().map(|request| request.id), Some(join.id()));
                }
                JoinStep::Show(sas) => assert_eq!(join.sas(), Some(sas)),
                JoinStep::Over(_) => assert!(join.done()),
                JoinStep::Keep => {}
            }
        }
    }

    fn deliver(&mut self, by: u8, to: u8, message: &Message) {
        let letter = plain(by, message);
        if to == ADMITTER {
            // Each one differs from every other, as random ones do.
            self.fresh += 1;
            let steps = self.window.handle(&letter, [self.fresh; 32], self.now);
            self.window_did(steps);
        } else {
            let steps = self.joins[usize::from(to - 1)].handle(&letter);
            self.join_did(to, steps);
        }
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Deliver(at) if !self.letters.is_empty() => {
                let Sent { by, to, message } = at.get(&self.letters);
                let (by, to, message) = (*by, *to, message.clone());
                self.deliver(by, to, &message);
            }
            Event::Forge(at, by) if !self.letters.is_empty() => {
                let Sent { by: author, to, message } = at.get(&self.letters);
                if author != by {
                    let (to, message) = (*to, message.clone());
                    self.deliver(*by, to, &message);
                }
            }
            Event::Deliver(_) | Event::Forge(..) => {}
            Event::Say(who) => {
                let said = self.joins[usize::from(who - 1)].say();
                self.join_did(*who, said.map(JoinStep::Send).into_iter().collect());
            }
            Event::Answer(who, yes) => {
                let join = &mut self.joins[usize::from(who - 1)];
                if let Ok(steps) = join.answer(*yes) {
                    if *yes {
                        self.said_yes.insert(join.id());
                    }
                    self.join_did(*who, steps);
                }
            }
            Event::Accept(who) => {
                let id = self.joins[usize::from(who - 1)].id();
                let waits = self.window.requests().iter().any(|request| request.id == id);
                let done = self.window.accept(id, self.now);
                assert!(waits || done.is_err(), "accepted what nobody sees");
                if let Ok(steps) = done {
                    self.accepted.insert(id);
                    assert_eq!(self.accepted.len(), 1, "two accepted in one window");
                    self.window_did(steps);
                }
            }
            Event::Decline(who) => {
                let id = self.joins[usize::from(who - 1)].id();
                let steps = self.window.decline(id, Decline::Person).unwrap_or_default();
                self.window_did(steps);
            }
            Event::Written(well) => {
                let done = match well {
                    true => self.window.admitted(vec![OperationId([3; 32])]),
                    false => self.window.failed(Decline::Closed),
                };
                assert!(done.is_err() || !self.admit.is_empty(), "written without being asked");
                self.window_did(done.unwrap_or_default());
            }
            Event::Cancel => {
                let steps = self.window.cancel();
                self.window_did(steps);
            }
            Event::Later(ms) => {
                self.now += ms;
                let steps = self.window.tick(self.now);
                self.window_did(steps);
            }
        }
    }
}

proptest! {
    #[test]
    fn t4_nobody_is_admitted_without_both_yeses_whatever_arrives(
        right in vec(prop::bool::weighted(0.8), 8),
        events in vec(event(), 0..200),
    ) {
        let join = |number: u8| {
            let token = if right[usize::from(number - 1)] { token() } else { token_of(ADMITTER, 10) };
            let nonce = Secret::new([200 + number; 32]);
            TokenJoin::start(&token, &card(number), nonce).expect("another device")
        };
        let joins = (1..=8).map(join).collect();
        let mut world = World {
            window: TokenWindow::open(&token(), 1000, WINDOW_MS),
            joins,
            right: right.clone(),
            letters: Vec::new(),
            now: 1000,
            fresh: 0,
            accepted: BTreeSet::new(),
            said_yes: BTreeSet::new(),
            shown: Vec::new(),
            admit: Vec::new(),
        };
        for event in &events {
            // Never as many letters as there are numbers for nonces.
            if world.fresh < 190 {
                world.play(event);
            }
        }
    }

    /// Two runs show the same string only if everything that the string is of is the same.
    #[test]
    fn t4_the_string_is_that_of_the_keys_the_terms_and_both_nonces(
        runs in [(1..3_u8, 30..32_u8, 60..62_u8, 0..4_u8), (1..3_u8, 30..32_u8, 60..62_u8, 0..4_u8)],
    ) {
        let strings = runs.map(|(who, mine, theirs, terms)| {
            let mut token = token();
            match terms {
                0 => {}
                1 => token.terms.window = WindowId([7; 8]),
                2 => token.terms.group = GroupId([7; 32]),
                _ => token.terms.role = Role::Reader,
            }
            let mut window = TokenWindow::open(&token, 0, WINDOW_MS);
            let nonce = Secret::new([mine; 32]);
            let mut join = TokenJoin::start(&token, &card(who), nonce).expect("another device");
            let mut ask = |message: Message, join: &mut TokenJoin| {
                let letter = Letter { group: Some(token.terms.group), ..plain(who, &message) };
                let steps = window.handle(&letter, [theirs; 32], 0);
                for message in sent(&steps) {
                    let group = Some(token.terms.group);
                    join.handle(&Letter { group, ..plain(ADMITTER, &message) });
                }
                steps
            };
            ask(said(&join), &mut join);
            let request = asked(&ask(said(&join), &mut join)).expect("a request");
            assert_eq!(join.sas(), Some(request.sas));
            request.sas
        });
        prop_assert_eq!(strings[0] == strings[1], runs[0] == runs[1]);
    }
}
