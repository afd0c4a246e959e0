//! Tests of the file tree: a delivery, rights, names, bounds.

use super::*;

const NOW: Duration = Duration::from_secs(1_800_000_000);

fn user(user: u32) -> Who {
    Who { user, groups: vec![user] }
}

fn mode(mode: u32) -> Changes {
    Changes { mode: Some(mode), ..Changes::default() }
}

#[test]
fn a_delivery_into_a_maildir() {
    let (mut tree, root, vmail) = (Tree::new(NOW), user(0), user(106));
    let owned = Changes { user: Some(106), group: Some(106), ..mode(0o700) };
    let folder = tree.make(&root, (Tree::ROOT, b"box"), Tree::new_folder(), &owned, NOW).unwrap();
    let file = tree.make(&vmail, (folder, b"tmp"), Kind::File(Vec::new()), &mode(0o600), NOW).unwrap();
    tree.write(&vmail, file, 0, b"hello", NOW).unwrap();
    tree.write(&vmail, file, 7, b"!", NOW).unwrap();
    assert_eq!(tree.read(&vmail, file, 0, 100).unwrap(), (&b"hello\0\0!"[..], true));
    assert_eq!(tree.read(&vmail, file, 4, 2).unwrap(), (&b"o\0"[..], false));
    tree.rename(&vmail, (folder, b"tmp"), (folder, b"new"), NOW).unwrap();
    assert_eq!(tree.lookup(&vmail, folder, b"new"), Ok(file));
    assert_eq!(tree.lookup(&vmail, folder, b"tmp"), Err(Refusal::NoEntry));
    assert_eq!((tree.bytes(), tree.get(file).unwrap().user), (8, 106));
    tree.link(&vmail, file, folder, b"more", NOW).unwrap();
    tree.remove(&vmail, folder, b"new", false, NOW).unwrap();
    assert_eq!(tree.bytes(), 8, "one name is left");
    tree.remove(&vmail, folder, b"more", false, NOW).unwrap();
    assert_eq!((tree.bytes(), tree.get(file).err()), (0, Some(Refusal::Stale)));
}

#[test]
fn rights_are_those_of_the_mode() {
    let (mut tree, root, vmail, other) = (Tree::new(NOW), user(0), user(106), user(7));
    let file = tree.make(&root, (Tree::ROOT, b"f"), Kind::File(vec![]), &mode(0o600), NOW).unwrap();
    assert_eq!(tree.read(&other, file, 0, 1), Err(Refusal::Access));
    assert_eq!(tree.write(&other, file, 0, b"x", NOW), Err(Refusal::Access));
    assert_eq!(
        tree.make(&vmail, (Tree::ROOT, b"g"), Kind::File(vec![]), &mode(0o600), NOW),
        Err(Refusal::Access)
    );
    assert_eq!(tree.remove(&vmail, Tree::ROOT, b"f", false, NOW), Err(Refusal::Access));
    let give = Changes { user: Some(106), ..Changes::default() };
    assert_eq!(tree.change(&vmail, file, &give, NOW), Err(Refusal::NotOwner));
    tree.change(&root, file, &give, NOW).unwrap();
    tree.change(&vmail, file, &mode(0), NOW).unwrap();
    tree.write(&vmail, file, 0, b"x", NOW).unwrap();
}

#[test]
fn an_exclusive_file_is_made_once_whoever_asks_again() {
    let (mut tree, root) = (Tree::new(NOW), user(0));
    let first = tree.make_once(&root, (Tree::ROOT, b"lock"), [1; 8], NOW).unwrap();
    assert_eq!(tree.make_once(&root, (Tree::ROOT, b"lock"), [1; 8], NOW), Ok(first));
    assert_eq!(tree.make_once(&root, (Tree::ROOT, b"lock"), [2; 8], NOW), Err(Refusal::Exists));
}

#[test]
fn a_list_goes_on_while_entries_go() {
    let (mut tree, root) = (Tree::new(NOW), user(0));
    for name in [b"c", b"a", b"b"] {
        tree.make(&root, (Tree::ROOT, name), Kind::File(vec![]), &mode(0o600), NOW).unwrap();
    }
    let names =
        |list: Vec<(u64, Vec<u8>, u64)>| list.into_iter().map(|(_, name, _)| name).collect::<Vec<_>>();
    let all = tree.list(&root, Tree::ROOT, 0).unwrap();
    assert_eq!(names(all.clone()), [&b"."[..], b"..", b"c", b"a", b"b"]);
    tree.remove(&root, Tree::ROOT, b"c", false, NOW).unwrap();
    assert_eq!(names(tree.list(&root, Tree::ROOT, all[2].0).unwrap()), [b"a", b"b"]);
}

#[test]
fn folders_go_only_when_empty_and_bounds_hold() {
    let (mut tree, root) = (Tree::new(NOW), user(0));
    let folder = tree.make(&root, (Tree::ROOT, b"d"), Tree::new_folder(), &mode(0o755), NOW).unwrap();
    let file = tree.make(&root, (folder, b"f"), Kind::File(vec![]), &mode(0o644), NOW).unwrap();
    assert_eq!(tree.remove(&root, Tree::ROOT, b"d", true, NOW), Err(Refusal::NotEmpty));
    assert_eq!(tree.remove(&root, Tree::ROOT, b"d", false, NOW), Err(Refusal::IsFolder));
    assert_eq!(tree.write(&root, file, u64::MAX, b"x", NOW), Err(Refusal::TooLarge));
    assert_eq!(tree.write(&root, file, FILE_BYTES_MAX, b"x", NOW), Err(Refusal::TooLarge));
    assert_eq!(
        tree.make(&root, (folder, &[b'x'; 256]), Kind::File(vec![]), &mode(0), NOW),
        Err(Refusal::NameTooLong)
    );
    tree.remove(&root, folder, b"f", false, NOW).unwrap();
    tree.remove(&root, Tree::ROOT, b"d", true, NOW).unwrap();
}
