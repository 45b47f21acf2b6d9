//! What an admission grants, in words: said on both sides before anybody consents (rule T9).

use wire::membership::{Role, Scope};

/// Who is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The person who lets another device in.
    Admitting,
    /// The person whose device comes in.
    Joining,
}

/// What a device with this role, in these folders, may do and see: one sentence each. They name no device
/// and hold nothing from outside.
#[must_use]
pub fn grants(role: Role, folders: &Scope, side: Side) -> Vec<String> {
    let (it, of) = match side {
        Side::Admitting => ("It", "the group"),
        Side::Joining => ("This device", "the other device's group"),
    };
    let folders = match folders {
        Scope::All => format!("all folders of {of}, those added later too"),
        Scope::List(list) => match list.len() {
            0 => format!("no folder of {of}"),
            1 => format!("one folder of {of}"),
            more => format!("{more} folders of {of}"),
        },
    };
    let mut said = vec![match role {
        Role::Admin => format!("{it} will be an admin: it reads and changes {folders}."),
        Role::Writer => format!("{it} will be a writer: it reads and changes {folders}."),
        Role::Reader => format!("{it} will be a reader: it reads {folders}, and changes nothing."),
        Role::Keeper => format!("{it} will be a keeper: it stores {folders}, and reads nothing."),
    }];
    said.push(match (role, side) {
        (Role::Admin, Side::Admitting) => {
            "It can let in and remove devices, this one too, and choose what each may do.".into()
        }
        (Role::Admin, Side::Joining) => {
            "It can let in and remove devices and choose what each may do, and so can the other admins with it."
                .into()
        }
        _ => format!("{it} lets nobody in and removes nobody; the group's admins can remove it."),
    });
    said.push(match side {
        Side::Admitting => "It sees the names of the group's devices.".into(),
        Side::Joining => "The group's devices see its name, and it sees theirs.".into(),
    });
    said.push("SSH is no part of this: it is asked separately, for each direction.".into());
    said
}

#[cfg(test)]
mod tests {
    use wire::membership::FolderId;

    use super::*;

    #[test]
    fn t9_both_sides_are_told_of_the_role_the_folders_and_ssh() {
        let one = Scope::List(vec![FolderId([1; 32])]);
        for (role, word) in [
            (Role::Admin, "admin"),
            (Role::Writer, "writer"),
            (Role::Reader, "reader"),
            (Role::Keeper, "keeper"),
        ] {
            for side in [Side::Admitting, Side::Joining] {
                let told = grants(role, &Scope::All, side).join(" ");
                assert!(told.contains(word) && told.contains("those added later too"), "{told}");
                assert!(told.contains("SSH is no part of this"), "{told}");
                assert_eq!(told.contains("can let in and remove"), role == Role::Admin, "{told}");
                let few = grants(role, &one, side).join(" ");
                assert!(few.contains("one folder") && !few.contains("all folders"), "{few}");
            }
        }
        let told = grants(Role::Admin, &Scope::All, Side::Admitting);
        assert!(told[1].contains("this one too"), "an admin may remove its admitter: {told:?}");
        assert!(grants(Role::Reader, &one, Side::Joining)[0].contains("changes nothing"));
    }
}
