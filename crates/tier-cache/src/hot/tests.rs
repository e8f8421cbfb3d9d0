use bytesize::ByteSize;
use proptest::option;
use proptest::prelude::*;
use session_core::{Body, Record, Standing, Timestamp, TokenKeys, TokenKind, User, UserId};

use super::*;
use crate::clock::{Clock, Now};

fn entry(hot: &Hot<String>, id: SessionId, version: i64, body: Option<&str>) -> Arc<Entry<String>> {
    let now = Clock::system().now();
    let head = Head {
        version: Version::new(version),
        ..Head::new(id, now.wall, now.wall + Duration::from_secs(600))
    };
    let body = body.map(|data| Body {
        device: None,
        created_at: Timestamp::from_unix_millis(0),
        data: Ok(data.to_owned()),
    });
    let data_len = 100;
    let record = Record { head, body };
    Arc::new(Entry::warm(record, data_len, now, Generation(0), hot))
}

fn hot() -> Hot<String> {
    Hot::new(&HotConfig::default())
}

#[test]
fn it_is_due_shortly_before_its_end_the_more_so_the_longer_a_load_takes() {
    let (clock, load) = (Clock::manual(), Duration::from_millis(10));
    let ttl = Duration::from_secs(60);
    let config = HotConfig {
        ttl,
        ..HotConfig::default()
    };
    let hot = Hot::new(&config);
    let entry = |lives: Duration| {
        let now = clock.now();
        let head = Head::new(SessionId::random(), now.wall, now.wall + lives);
        let record: Record<()> = Record { head, body: None };
        Entry::warm(record, 0, now, Generation(0), &hot)
    };
    let (long, short) = (entry(2 * ttl), entry(ttl / 2));
    let due = |entry: &Entry<()>, load| {
        let now = clock.now().moment;
        (0..10_000).filter(|_| entry.is_due(now, load)).count()
    };
    assert_eq!(due(&long, load), 0);
    clock.advance(ttl - 2 * load);
    // One in e² of them.
    assert!(
        (1000..1800).contains(&due(&long, load)),
        "{}",
        due(&long, load)
    );
    assert!(due(&long, 10 * load) > 7000);
    clock.advance(2 * load);
    assert_eq!(due(&long, load), 10_000);
    // One that is over then cannot be renewed.
    assert_eq!(due(&short, load), 0);
}

fn millis(most: u64) -> impl Strategy<Value = Duration> {
    (0..most).prop_map(Duration::from_millis)
}

proptest! {
    #[test]
    fn it_is_calm_where_each_closer_look_finds_nothing_to_do(
        lives in millis(4000),
        unused in millis(2000),
        idle_ttl in option::of(millis(3000)),
        was_revoked in prop::bool::weighted(0.1),
        is_active in prop::bool::weighted(0.9),
        ttl in millis(4000),
        steps in prop::collection::vec((millis(1500), -2000_i64..2000), 1..5),
        load_micros in 0_u32..100_000,
    ) {
        let hot = Hot::new(&HotConfig { ttl, ..HotConfig::default() });
        let clock = Clock::manual();
        let now = clock.now();
        let head = Head {
            last_seen_at: now.wall - unused,
            idle_ttl,
            revoked_at: was_revoked.then_some(now.wall),
            is_active,
            ..Head::new(SessionId::random(), now.wall, now.wall + lives)
        };
        let record: Record<()> = Record { head, body: None };
        let entry = Entry::warm(record, 0, now, Generation(0), &hot);
        for (step, ahead) in steps {
            clock.advance(step);
            let now = clock.now();
            let wall = Timestamp::from_unix_millis(now.wall.unix_millis() + ahead);
            let now = Now { wall, ..now };
            let is_calm = entry.is_calm(now, load_micros);
            let stands = entry.standing(now.wall) == Standing::Valid;
            let far = now.moment + 10 * Duration::from_micros(load_micros.into());
            let lasts = far < entry.hot_until();
            let tells = entry.touch(now.wall, Duration::ZERO);
            let is_patient = idle_ttl.is_none_or(|ttl| ttl.as_secs() >= 1);
            prop_assert_eq!(is_calm, stands && lasts && is_patient && !tells);
        }
    }
}

#[test]
fn a_hit_hands_out_the_very_entry_that_was_kept() {
    let hot = hot();
    let entry = entry(&hot, SessionId::random(), 1, None);
    hot.insert(Arc::clone(&entry), |_| true);
    let hit = hot.get(entry.head().id).unwrap();
    assert!(Arc::ptr_eq(&hit, &entry));
}

#[test]
fn the_later_version_stays_and_of_one_version_the_fuller() {
    let hot = hot();
    let id = SessionId::random();
    let kept = |version, body| {
        hot.insert(entry(&hot, id, version, body), |_| true);
        let kept = hot.get(id).unwrap();
        (kept.head().version.get(), kept.body().is_some())
    };
    assert_eq!(kept(2, None), (2, false));
    assert_eq!(kept(1, Some("old")), (2, false));
    assert_eq!(kept(2, Some("same")), (2, true));
    assert_eq!(kept(2, None), (2, true));
    assert_eq!(kept(3, None), (3, false));
}

#[test]
fn what_the_gate_refuses_after_the_insert_is_not_there() {
    let hot = hot();
    let entry = entry(&hot, SessionId::random(), 1, None);
    assert!(hot.insert(Arc::clone(&entry), |_| false).is_none());
    assert!(hot.get(entry.head().id).is_none());
}

#[test]
fn an_entry_is_not_seen_before_the_gate_has_admitted_it() {
    let hot = hot();
    let entry = entry(&hot, SessionId::random(), 1, None);
    let id = entry.head().id;
    let admitted = hot.insert(entry, |_| {
        assert!(hot.get(id).is_none(), "nobody sees it yet");
        true
    });
    assert!(admitted.is_some() && hot.get(id).is_some());
}

#[test]
fn a_floor_raised_during_the_insert_wins() {
    let hot = hot();
    let entry = entry(&hot, SessionId::random(), 1, None);
    let id = entry.head().id;
    // The gate has said yes when the floor is raised.
    hot.insert(entry, |_| {
        hot.remove_below(id, Version::new(2));
        true
    });
    assert!(hot.get(id).is_none());
}

#[test]
fn a_refusal_that_was_asked_for_before_all_were_forgotten_is_not_believed_however_late_it_is_noted()
{
    let hot = hot();
    let session = SessionId::random();
    let token = KeyHash::from_bytes([7; 16]);
    let refuse = |asked| {
        let refused = Refused {
            asked,
            why: Refusal::Replaced,
            session,
            version: Version::new(1),
            until: Moment::LONG_AGO,
        };
        hot.refuse(token, refused);
    };
    for forget in [Hot::clear, Hot::forget_refused] {
        let asked = hot.asking();
        forget(&hot);
        refuse(asked);
        assert!(hot.refused(token).is_none());
        refuse(hot.asking());
        assert!(hot.refused(token).is_some());
        forget(&hot);
        assert!(hot.refused(token).is_none());
    }
}

#[test]
fn clear_empties_at_once_even_for_what_is_being_inserted() {
    let hot = hot();
    let (early, late) = (SessionId::random(), SessionId::random());
    hot.insert(entry(&hot, early, 1, None), |_| true);
    hot.insert(entry(&hot, late, 1, None), |_| {
        hot.clear();
        true
    });
    assert!(hot.get(early).is_none());
    assert!(hot.get(late).is_none());
}

#[test]
fn what_was_asked_for_before_a_clear_is_not_seen_however_late_it_comes() {
    let hot = hot();
    let (lost, id) = (
        entry(&hot, SessionId::random(), 2, Some("lost")),
        SessionId::random(),
    );
    hot.clear();
    hot.insert(Arc::clone(&lost), |_| true);
    assert!(hot.get(lost.head().id).is_none());
    // Nor does it keep out what was asked for later.
    hot.insert(entry(&hot, id, 2, Some("lost")), |_| true);
    let mut later = Arc::into_inner(entry(&hot, id, 1, None)).unwrap();
    later.generation = hot.generation();
    hot.insert(Arc::new(later), |_| true);
    assert_eq!(hot.get(id).unwrap().head().version, Version::new(1));
}

#[test]
fn the_capacity_in_bytes_is_kept() {
    let capacity = ByteSize::kib(64);
    let hot = Hot::new(&HotConfig {
        capacity,
        ..HotConfig::default()
    });
    for _ in 0..1000 {
        hot.insert(entry(&hot, SessionId::random(), 1, Some("data")), |_| true);
    }
    let (entries, bytes) = hot.size();
    assert!(bytes <= capacity.as_u64(), "{bytes}");
    assert!(entries > 50, "{entries}");
}

/// An entry whose data weighs this much.
fn heavy(hot: &Hot<String>, id: SessionId, bytes: usize) -> Arc<Entry<String>> {
    let now = Clock::system().now();
    let head = Head::new(id, now.wall, now.wall + Duration::from_secs(600));
    let body = Some(Body {
        device: None,
        created_at: Timestamp::from_unix_millis(0),
        data: Ok(String::new()),
    });
    let record = Record { head, body };
    Arc::new(Entry::warm(record, bytes, now, Generation(0), hot))
}

/// Fewer than moka waits for before it makes room: logins with much data, and then nothing that moka hears
/// of, as hits at the front are.
#[test]
fn a_few_heavy_sessions_take_no_more_than_the_capacity_and_a_sixteenth() {
    const CAPACITY: usize = 1 << 20;
    for weight in [CAPACITY / 100, CAPACITY / 10, CAPACITY * 2 / 3] {
        let hot = Hot::new(&HotConfig {
            capacity: ByteSize(CAPACITY as u64),
            ..HotConfig::default()
        });
        // As a weak reference shows what is still held by anyone.
        let mut put = Vec::new();
        for _ in 0..60 {
            let id = SessionId::random();
            let entry = heavy(&hot, id, weight);
            let weighs = u64::from(entry.weight());
            put.push((id, weighs, Arc::downgrade(&entry)));
            hot.insert(entry, |_| true);
            // What was dropped is freed once no thread looks at any moka, as other tests may just now.
            let most = (CAPACITY + CAPACITY / 16) as u64;
            let held = || -> u64 {
                let held = put.iter().filter(|(_, _, entry)| entry.strong_count() > 0);
                held.map(|(_, weighs, _)| weighs).sum()
            };
            let soon = (0..6000).any(|_| {
                let is_within = held() <= most;
                if !is_within {
                    std::thread::sleep(Duration::from_millis(1));
                }
                is_within
            });
            assert!(soon, "{} bytes of entries of {weight}", held());
        }
    }
}

#[test]
fn a_session_that_is_larger_than_the_capacity_is_not_kept() {
    let hot = Hot::new(&HotConfig {
        capacity: ByteSize::kib(64),
        ..HotConfig::default()
    });
    let id = SessionId::random();
    hot.insert(heavy(&hot, id, 1000), |_| true);
    assert!(hot.get(id).is_some());
    let large = heavy(&hot, id, 100_000);
    // It is handed out, and no older one is found in its place.
    assert!(hot.insert(Arc::clone(&large), |_| true).is_some());
    assert!(hot.get(id).is_none());
    let kept = Arc::downgrade(&large);
    drop(large);
    assert_eq!(kept.strong_count(), 0);
}

#[test]
fn no_entry_outlives_its_session() {
    let hot = hot();
    let now = Clock::system().now();
    let mut head = entry(&hot, SessionId::random(), 1, None).head().clone();
    head.expires_at = now.wall + Duration::from_secs(5);
    let record = Record::<String> { head, body: None };
    let entry = Entry::warm(record, 0, now, Generation(0), &hot);
    assert_eq!(entry.hot_until(), now.moment + Duration::from_secs(5));
}

/// A token of a session, as text.
fn token(id: SessionId) -> String {
    let token = TokenKeys::random().mint(TokenKind::Access, id);
    token.expose().to_string()
}

fn written(token: &str) -> WrittenToken<'_> {
    WrittenToken::access(token).unwrap()
}

fn ticket(hot: &Hot<String>, token: &str) -> Ticket {
    hot.glimpse(written(token).stem()).ticket
}

/// Brings a session to the front by its token, as a request does.
fn bring(hot: &Hot<String>, id: SessionId, token: &str) {
    let ticket = ticket(hot, token);
    hot.bring(written(token), &hot.get(id).unwrap(), ticket);
}

#[test]
fn a_token_that_was_accepted_is_known_again_and_no_other_of_the_session() {
    let hot = hot();
    let id = SessionId::random();
    let (accepted, other) = (token(id), token(id));
    hot.insert(entry(&hot, id, 1, None), |_| true);
    let may_be_known = || hot.glimpse(Stem::of(id)).may_be_known;
    assert!(!may_be_known());
    assert!(hot.get_known(written(&accepted)).is_none());
    bring(&hot, id, &accepted);
    assert!(may_be_known());
    let known = hot.get_known(written(&accepted)).unwrap();
    assert!(Arc::ptr_eq(&known, &hot.get(id).unwrap()));
    assert!(hot.get_known(written(&other)).is_none());
    // It is known by the last one.
    bring(&hot, id, &other);
    assert!(hot.get_known(written(&accepted)).is_none());
    assert!(hot.get_known(written(&other)).is_some());
    hot.remove_below(id, Version::DELETED);
    assert!(!may_be_known());
}

#[test]
fn a_session_that_changes_is_not_known_any_more_though_a_request_still_holds_it() {
    let hot = hot();
    let id = SessionId::random();
    let token = token(id);
    type Change = fn(&Hot<String>, SessionId);
    let changes: [Change; 4] = [
        |hot, id| hot.remove_below(id, Version::new(9)),
        // Moka has dropped it before, to make room.
        |hot, id| {
            hot.sessions.settled().invalidate(&id);
            hot.remove_below(id, Version::new(9));
        },
        |hot, id| drop(hot.insert(entry(hot, id, 2, None), |_| true)),
        |hot, _| hot.clear(),
    ];
    for change in changes {
        let mut entry = Arc::into_inner(entry(&hot, id, 1, None)).unwrap();
        entry.generation = hot.generation();
        hot.insert(Arc::new(entry), |_| true);
        bring(&hot, id, &token);
        let ticket = ticket(&hot, &token);
        let held = hot.get_known(written(&token)).unwrap();
        change(&hot, id);
        assert!(hot.get_known(written(&token)).is_none());
        // Nor does a request bring it back that had found it before.
        hot.bring(written(&token), &held, ticket);
        assert!(hot.get_known(written(&token)).is_none());
        hot.remove_below(id, Version::DELETED);
    }
}

#[test]
fn what_moka_has_dropped_is_not_known_and_its_memory_is_free() {
    let hot = Hot::new(&HotConfig {
        capacity: ByteSize::kib(64),
        ..HotConfig::default()
    });
    let mut brought = Vec::new();
    for _ in 0..1000 {
        let id = SessionId::random();
        let token = token(id);
        hot.insert(entry(&hot, id, 1, None), |_| true);
        let ticket = ticket(&hot, &token);
        if let Some(entry) = hot.get(id) {
            hot.bring(written(&token), &entry, ticket);
            brought.push((id, token));
        }
    }
    let (entries, _) = hot.size();
    assert!(brought.len() > 2 * entries as usize);
    // An entry's allocation stands while a weak reference to it does. What moka has dropped it gives back
    // when no thread looks at any moka, and other tests may look at theirs just now.
    let is_given_back = || {
        let (entries, _) = hot.size();
        let gone = |(id, token): &(SessionId, String)| {
            hot.get(*id).is_some() || hot.get_known(written(token)).is_none()
        };
        brought.iter().all(gone) && (1..=entries).contains(&(hot.front.references() as u64))
    };
    let soon = (0..6000).any(|_| {
        let is_given_back = is_given_back();
        if !is_given_back {
            std::thread::sleep(Duration::from_millis(10));
        }
        is_given_back
    });
    assert!(soon, "{} of {entries}", hot.front.references());
}

#[test]
fn what_is_used_at_the_front_alone_stays_in_moka() {
    let hot = Hot::new(&HotConfig {
        capacity: ByteSize::kib(64),
        ..HotConfig::default()
    });
    let used = SessionId::random();
    let token = token(used);
    hot.insert(entry(&hot, used, 1, None), |_| true);
    let request = || {
        if hot.get_known(written(&token)).is_none() {
            // Something else that was inserted shares its bucket.
            bring(&hot, used, &token);
        }
    };
    for _ in 0..2000 {
        let id = SessionId::random();
        hot.insert(entry(&hot, id, 1, None), |_| true);
        // Others are used too, and more often than moka is told of the one.
        (0..3).for_each(|_| drop(hot.get(id)));
        (0..30).for_each(|_| request());
        hot.size();
    }
    assert!(hot.get(used).is_some());
}

/// Bytes for each of so many sessions that stay here, as they were asked of the allocator.
fn bytes_each(sessions: u32, room_each: u64, record: impl Fn() -> Record<u64>) -> u64 {
    let now = Clock::system().now();
    let config = HotConfig {
        capacity: ByteSize(u64::from(sessions) * room_each),
        ..HotConfig::default()
    };
    let mut hot = None;
    let held = allocation_counter::measure(|| {
        let filled = hot.insert(Hot::new(&config));
        for _ in 0..sessions {
            let entry = Entry::warm(record(), 11, now, Generation(0), filled);
            filled.insert(Arc::new(entry), |_| true);
        }
        filled.size();
    });
    let hot = hot.unwrap();
    assert_eq!(hot.size().0, u64::from(sessions));
    assert!([0, u64::from(sessions)].contains(&hot.lookups.entry_count()));
    u64::try_from(held.bytes_current).unwrap() / u64::from(sessions)
}

#[test]
fn a_small_session_takes_at_most_600_bytes_and_300_more_for_a_foreign_key() {
    // In a process of its own: what moka has replaced is freed once no thread looks at any moka.
    let program = std::env::current_exe().unwrap();
    let measured = std::process::Command::new(program)
        .args(["--exact", "hot::tests::bytes", "--ignored", "--nocapture"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&measured.stdout);
    let bytes = said.lines().find_map(|line| line.split_once("bytes: "));
    let (_, bytes) = bytes.unwrap_or_else(|| panic!("{said}"));
    let bytes: Vec<u64> = bytes.split(' ').flat_map(str::parse).collect();
    let [minted, key] = bytes[..] else {
        panic!("{said}");
    };
    assert!(minted <= 600, "{minted}");
    assert!(key <= 300, "{key}");
}

#[test]
#[ignore = "the test above runs it"]
fn bytes() {
    const SESSIONS: u32 = 50_000;
    let keys = TokenKeys::random();
    let record = |by: Option<&str>| {
        let now = Clock::system().now();
        let id = SessionId::random();
        let access = match by {
            None => keys.hash(&keys.mint(TokenKind::Access, id)),
            Some(jti) => {
                let jti = format!("{jti} of {id}");
                let token = session_core::ForeignToken::new("https://idp.example", &jti).unwrap();
                keys.hash_foreign(TokenKind::Access, &token)
            }
        };
        let user = User {
            id: UserId::Int(1),
            email: "ada.lovelace@example.co".into(),
            username: "adalovelace".into(),
        };
        let head = Head {
            user: Some(user),
            access: Some(access),
            ..Head::new(id, now.wall, now.wall + Duration::from_secs(7200))
        };
        let body = Some(Body {
            device: None,
            created_at: now.wall,
            data: Ok(1),
        });
        Record { head, body }
    };
    let minted = bytes_each(SESSIONS, 640, || record(None));
    // A quarter is for the keys.
    let with_room = bytes_each(SESSIONS, 1280, || record(None));
    let foreign = bytes_each(SESSIONS, 1280, || record(Some("jti")));
    println!("bytes: {minted} {}", foreign - with_room);
}
