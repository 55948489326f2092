//! Both parts of a merged user-data, as a MIME reader finds them.

use super::*;
use crate::instance::tests::data;
use expect_test::expect;
use proptest::prelude::*;

fn merged(default: &[u8], own: &[u8]) -> String {
    let (default, own) = (data(default), data(own));
    String::from_utf8(user_data(default.as_ref(), own.as_ref()).unwrap().into_owned()).unwrap()
}

#[test]
fn one_is_itself() {
    let one = data([0, 255]);
    assert_eq!(user_data(one.as_ref(), None).as_deref(), Some(&[0, 255][..]));
    assert_eq!(user_data(None, one.as_ref()).as_deref(), Some(&[0, 255][..]));
    assert_eq!(user_data(None, None), None);
}

#[test]
fn two_are_the_parts_of_one_the_vms_own_last() {
    expect![[r#"
        Content-Type: multipart/mixed; boundary="waifud-part-1"
        MIME-Version: 1.0

        --waifud-part-1
        Content-Type: text/plain
        Content-Transfer-Encoding: base64
        Content-Disposition: attachment; filename="cluster-default"

        I2Nsb3VkLWNvbmZpZwpydW5jbWQ6IFthXQo=
        --waifud-part-1
        Content-Type: text/plain
        Content-Transfer-Encoding: base64
        Content-Disposition: attachment; filename="user-data"

        IyEvYmluL3NoCmVjaG8gd2FpZnVkLXBhcnQtMAo=
        --waifud-part-1--
    "#]]
    .assert_eq(&merged(b"#cloud-config\nruncmd: [a]\n", b"#!/bin/sh\necho waifud-part-0\n"));
}

#[test]
fn mime_is_a_part_as_it_is_and_compressed_data_says_so() {
    let own =
        b"Content-Type: multipart/mixed; boundary=\"x\"\nMIME-Version: 1.0\n\n--x\n\n#!/bin/sh\n--x--\nwaifud-part-0";
    expect![[r#"
        Content-Type: multipart/mixed; boundary="waifud-part-1"
        MIME-Version: 1.0

        --waifud-part-1
        Content-Type: application/gzip
        Content-Transfer-Encoding: base64
        Content-Disposition: attachment; filename="cluster-default"

        H4sI
        --waifud-part-1
        Content-Type: multipart/mixed; boundary="x"
        MIME-Version: 1.0

        --x

        #!/bin/sh
        --x--
        waifud-part-0
        --waifud-part-1--
    "#]]
    .assert_eq(&merged(&[0x1f, 0x8b, 8], own));
}

proptest! {
    #[test]
    fn every_byte_of_both_is_there(a in proptest::collection::vec(any::<u8>(), 1..500), b in proptest::collection::vec(any::<u8>(), 1..500)) {
        let out = merged(&a, &b);
        prop_assert!(out.is_ascii());
        let parts: Vec<_> = out.split("\n--waifud-part-0").collect();
        prop_assert_eq!(parts.len(), 4);
        let decode = |part: &str| {
            let (_, body) = part.split_once("\n\n").unwrap();
            BASE64.decode(body.replace('\n', "")).unwrap()
        };
        prop_assert_eq!((decode(parts[1]), decode(parts[2])), (a, b));
    }
}
