//! Tests of keys and certificates: what they carry, what is refused, what survives on disk, when they are renewed.

use super::*;
use std::os::unix::fs::PermissionsExt;
use waifud_model::ids::ClusterId;

fn ca() -> Ca {
    Ca::generate(ClusterId::from_random([7; 16])).unwrap()
}

fn node() -> NodeId {
    NodeId::from_random(42)
}

fn identity(ca: &Ca, now: SystemTime) -> Identity {
    Identity::issue(ca, node(), NodeKey::generate().unwrap(), now).unwrap()
}

#[test]
fn a_certificate_carries_both_names_and_the_key() {
    let ca = ca();
    let identity = identity(&ca, SystemTime::now());
    assert_eq!(identity.subject(), Subject { cluster: ca.cluster(), node: node() });
    assert_eq!(identity.subject().uri(), format!("spiffe://{}/node/000000000000002a", ca.cluster()));
    assert_eq!(identity.fingerprint(), identity.key().fingerprint());
    assert_eq!(identity.fingerprint(), identity.key().public().fingerprint());
}

#[test]
fn a_ca_read_from_the_state_signs_like_the_one_that_was_made() {
    let made = ca();
    let read = Ca::from_der(made.certificate(), &made.key_der()).unwrap();
    assert_eq!((read.cluster(), read.pin()), (made.cluster(), made.pin()));
    let signed = identity(&read, SystemTime::now());
    Identity::new(signed.key().clone(), &signed.chain()[0], made.certificate()).unwrap();
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let (ours, theirs) = (ca(), ca());
    let identity = identity(&ours, SystemTime::now());
    let certificate = &identity.chain()[0];
    let other_key = Identity::new(NodeKey::generate().unwrap(), certificate, ours.certificate());
    assert!(matches!(other_key, Err(IdentityError::OtherKey)), "{other_key:?}");
    // The same cluster id, another CA: only the signature tells.
    let other_ca = Identity::new(identity.key().clone(), certificate, theirs.certificate());
    assert!(matches!(other_ca, Err(IdentityError::OtherCa)), "{other_ca:?}");
    let garbage = Identity::new(identity.key().clone(), b"not a certificate", ours.certificate());
    assert!(matches!(garbage, Err(IdentityError::Certificate(CertificateError::Form))), "{garbage:?}");
}

#[test]
fn renewal_is_due_at_two_thirds_and_keeps_the_key() {
    let (ca, now) = (ca(), SystemTime::now());
    let first = identity(&ca, now);
    let day = Duration::from_secs(24 * 60 * 60);
    assert!(!first.needs_renewal(now));
    assert!(!first.needs_renewal(now + day * 59));
    assert!(first.needs_renewal(now + day * 61));
    assert!(first.expires_at() <= now + CERTIFICATE_LIFE);

    let later = now + day * 100;
    let renewed = first.renew(&ca, later).unwrap();
    assert_eq!((renewed.fingerprint(), renewed.node()), (first.fingerprint(), first.node()));
    assert!(!renewed.needs_renewal(later));
    let rotated = first.rotate(&ca, later).unwrap();
    assert_ne!(rotated.fingerprint(), first.fingerprint());
    assert_eq!(rotated.node(), first.node());
    assert!(matches!(first.renew(&self::ca(), later), Err(IdentityError::OtherCa)));
}

#[test]
fn an_identity_survives_on_disk_for_its_owner_alone() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("identity");
    let dir = IdentityDir::open(&path).unwrap();
    assert!(dir.load().unwrap().is_none());
    let saved = identity(&ca(), SystemTime::now());
    dir.save(&saved).unwrap();
    let loaded = IdentityDir::open(&path).unwrap().load().unwrap().unwrap();
    assert_eq!((loaded.subject(), loaded.fingerprint()), (saved.subject(), saved.fingerprint()));
    assert_eq!(loaded.chain(), saved.chain());
    let mode = |p: &std::path::Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("identity.pem"))), (0o700, 0o600));
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1, "no temporary file is left");
}

#[test]
fn a_damaged_file_is_an_error_and_never_a_new_node() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = IdentityDir::open(temporary.path()).unwrap();
    dir.save(&identity(&ca(), SystemTime::now())).unwrap();
    let path = temporary.path().join("identity.pem");
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(dir.load().is_err());
    std::fs::write(&path, b"").unwrap();
    assert!(matches!(dir.load(), Err(DirError::Incomplete { .. })));
}

#[test]
fn the_next_identity_waits_for_its_key_to_be_committed() {
    let temporary = tempfile::tempdir().unwrap();
    let (dir, ca) = (IdentityDir::open(temporary.path()).unwrap(), ca());
    let old = identity(&ca, SystemTime::now());
    let new = old.rotate(&ca, SystemTime::now()).unwrap();
    dir.save(&old).unwrap();
    dir.save_next(&new).unwrap();
    assert!(dir.promote(old.fingerprint()).unwrap().is_none());
    assert_eq!(dir.load().unwrap().unwrap().fingerprint(), old.fingerprint());
    assert_eq!(dir.promote(new.fingerprint()).unwrap().unwrap().fingerprint(), new.fingerprint());
    assert_eq!(dir.load().unwrap().unwrap().fingerprint(), new.fingerprint());
    assert!(dir.promote(new.fingerprint()).unwrap().is_none());
}

#[test]
fn a_join_is_repeated_with_the_same_key() {
    let temporary = tempfile::tempdir().unwrap();
    let dir = IdentityDir::open(temporary.path()).unwrap();
    let first = dir.join_key().unwrap().fingerprint();
    assert_eq!(dir.join_key().unwrap().fingerprint(), first);
}
