//! A large content whose chunks, or their list, are wrong.

use folder::{
    content::{ChunkList, ContentReader},
    engine::Event,
};
use sim::disk::VirtualDisk;
use tree::{Disk as _, Place};
use wire::{
    Hash,
    record::Body,
    sync::{Message, Piece, PieceAnswer, Status},
};

use super::lone::{Lone, path, piece, record};
use crate::noise;

/// A large content and its chunk list.
fn large() -> (Vec<u8>, ChunkList) {
    let contents = noise(9, 2_500_000);
    let disk = VirtualDisk::new();
    disk.write_file("a", &contents).expect("write");
    let file = disk.open(&Place::Tree(path("a"))).expect("open");
    let hashed = ContentReader::new().read(&*file, &file.stat().expect("stat")).expect("read");
    (contents, hashed.chunks.expect("a chunk list"))
}

/// Answers everything that is asked about a large content, with `lie` changing each chunk on its way.
/// Returns how many chunks were asked for.
fn answer_all(lone: &mut Lone, contents: &[u8], list: &ChunkList, lie: fn(&mut Vec<u8>)) -> usize {
    let mut chunks = 0;
    for _ in 0..500 {
        let questions = lone.take();
        let mut answered = false;
        for question in questions {
            let answer = match question {
                Message::GetList { request, pages, .. } if pages.is_empty() => {
                    Message::List { request, ids: list.page_ids().collect(), pages: Vec::new() }
                }
                Message::GetList { request, pages, .. } => {
                    let page = |number: u32| (number, list.page(number as usize).expect("a page"));
                    let pages = pages.into_iter().map(page).collect();
                    Message::List { request, ids: Vec::new(), pages }
                }
                Message::Get { request, pieces } => {
                    chunks += pieces.len();
                    let answer = |(item, asked): (u32, Piece)| {
                        let start = usize::try_from(asked.offset).expect("small");
                        let mut bytes = contents[start..start + asked.len as usize].to_vec();
                        lie(&mut bytes);
                        PieceAnswer { item, data: piece(&bytes) }
                    };
                    Message::Data { request, answers: (0..).zip(pieces).map(answer).collect() }
                }
                _ => continue,
            };
            answered = true;
            if lone.ended.is_none() {
                lone.tell(answer);
            }
        }
        if !answered {
            return chunks;
        }
    }
    panic!("it asks for ever: {chunks} chunks so far");
}

#[test]
fn e21_a_wrong_chunk_is_asked_for_again_and_at_last_given_up() {
    let (contents, list) = large();
    let mut lone = Lone::with(|_| ());
    let body = Body::File { size: contents.len() as u64, content: list.content() };
    lone.push(vec![record("a", body, 1)]);
    let asked = answer_all(&mut lone, &contents, &list, |bytes| bytes[0] ^= 1);
    assert!(asked > list.chunks().len(), "a wrong chunk is asked for again");
    assert!(lone.disk.snapshot().is_empty());
    let waits = |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "a");
    assert!(lone.events.iter().any(waits));
    // It has come to its senses.
    lone.tell(Message::Status(Status { lacking: 1, ..Status::default() }));
    answer_all(&mut lone, &contents, &list, |_| ());
    assert_eq!(lone.text("a").as_deref(), Some(&*contents));
    assert_eq!(lone.ended, None);
}

#[test]
fn e21_a_chunk_list_of_another_content_is_not_taken() {
    let (contents, list) = large();
    let mut lone = Lone::with(|_| ());
    let body = Body::File { size: contents.len() as u64, content: Hash([4; 32]) };
    lone.push(vec![record("a", body, 1)]);
    let asked = answer_all(&mut lone, &contents, &list, |_| ());
    assert_eq!(asked, 0, "not one chunk of it is asked for");
    assert!(lone.disk.snapshot().is_empty());
    let waits = |event: &Event| matches!(event, Event::Skipped { path, .. } if path == "a");
    assert!(lone.events.iter().any(waits));
}

#[test]
fn e21_a_wrong_page_ends_the_link() {
    let (contents, list) = large();
    let mut lone = Lone::with(|_| ());
    let body = Body::File { size: contents.len() as u64, content: list.content() };
    lone.push(vec![record("a", body, 1)]);
    let list_request = |lone: &mut Lone| {
        let asked = lone.take().into_iter().find_map(|message| match message {
            Message::GetList { request, .. } => Some(request),
            _ => None,
        });
        asked.expect("the list is asked for")
    };
    let request = list_request(&mut lone);
    lone.tell(Message::List { request, ids: list.page_ids().collect(), pages: Vec::new() });
    let request = list_request(&mut lone);
    let mut page = list.page(0).expect("a page").to_vec();
    page[0] ^= 1;
    lone.tell(Message::List { request, ids: Vec::new(), pages: vec![(0, page.into())] });
    assert!(lone.ended.is_some());
    assert!(lone.disk.all_contents().is_empty());
}
