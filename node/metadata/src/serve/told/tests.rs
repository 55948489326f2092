//! Forms of guests: whose life they are about, and what else comes that way.

use super::*;
use crate::serve::{
    Service, Tokens,
    answer::router,
    tests::{Few, ask_with, instance, lab, token},
};
use axum::{Router, body::Body};
use std::sync::{Arc, atomic::Ordering};
use waifud_cloudinit::phone_home::PATH;
use waifud_model::cloud_init::Imds;

const FORM_TYPE: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn life(guest: u8, life: u32) -> (waifud_model::ids::VmId, u32) {
    (instance(guest, life, Imds::Any).id, life)
}

/// As cloud-init posts it.
fn form(guest: u8, life: u32) -> String {
    let id = instance(guest, life, Imds::Any).instance_id();
    format!("pub_key_rsa=ssh-rsa+AAAA%3D%3D+root%40vm%0A&instance_id={id}&hostname=vm&fqdn=vm.waifu.internal")
}

fn service(guests: &Arc<Few>) -> Router {
    router(Service::new(guests.clone(), Tokens::new(b"secret"), Rate { per_second: 100, burst: 400 }))
}

async fn post(service: &Router, guest: u8, headers: &[(&str, &str)], body: impl Into<Body>) -> u16 {
    ask_with(service, guest, "POST", PATH, headers, body.into()).await.status.as_u16()
}

#[test]
fn a_form_names_one_life() {
    assert_eq!(instance_id("instance_id=i-1"), Some("i-1"));
    assert_eq!(instance_id("pub_key_rsa=ssh-rsa+AAAA%3D%3D+root%40vm%0A&instance_id=i-1&fqdn=vm"), Some("i-1"));
    for bad in ["", "i-1", "&instance_id=i-1", "instance_id=i-1&instance_id=i-2", "fqdn=vm", "instance-id=i-1"] {
        assert_eq!(instance_id(bad), None, "{bad}");
    }
}

#[tokio::test]
async fn a_guest_tells_of_itself_in_this_life_as_often_as_it_likes() {
    let guests = Few::new(2);
    let service = service(&guests);
    let lies = [FORM_TYPE, ("Host", "10.77.0.3"), ("Forwarded", "for=10.77.0.3")];
    for _ in 0..2 {
        assert_eq!(post(&service, 2, &lies, form(2, 2)).await, 204);
    }
    let uuid = instance(3, 2, Imds::Any).openstack_uuid();
    assert_eq!(post(&service, 3, &[FORM_TYPE], format!("instance_id={uuid}")).await, 204);
    assert_eq!(*guests.done.lock().unwrap(), [life(2, 2), life(2, 2), life(3, 2)]);

    for (guest, form, expected) in [(2, form(2, 1), 409), (2, form(3, 2), 409), (99, form(2, 2), 404)] {
        assert_eq!(post(&service, guest, &[FORM_TYPE], form).await, expected);
    }
    guests.deaf.store(true, Ordering::Relaxed);
    let answer = ask_with(&service, 2, "POST", PATH, &[FORM_TYPE], form(2, 2).into()).await;
    assert_eq!((answer.status.as_u16(), &answer.headers["retry-after"]), (503, &"2".parse().unwrap()));
    assert_eq!(guests.done.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn what_is_no_form_of_cloud_init_is_refused() {
    let guests = Few::new(1);
    for (headers, body, expected) in [
        (vec![], form(2, 1), 415),
        (vec![("Content-Type", "application/json")], form(2, 1), 415),
        (vec![FORM_TYPE], String::new(), 400),
        (vec![FORM_TYPE], "instance_id".to_owned(), 400),
        (vec![FORM_TYPE], "\u{fffd}".to_owned(), 400),
        (vec![FORM_TYPE], "x".repeat(FORM + 1), 413),
        // An open proxy in the guest adds that.
        (vec![FORM_TYPE, ("X-Forwarded-For", "10.0.0.1")], form(2, 1), 403),
        (vec![FORM_TYPE, ("X-aws-ec2-metadata-token", "x")], form(2, 1), 401),
    ] {
        assert_eq!(post(&service(&guests), 2, &headers, body.clone()).await, expected, "{headers:?} {body}");
    }
    // Who requires tokens requires them here too.
    let strict = service(&guests);
    assert_eq!(post(&strict, 4, &[FORM_TYPE], form(4, 1)).await, 401);
    assert!(guests.done.lock().unwrap().is_empty());
    let token = token(&strict, 4).await;
    assert_eq!(post(&strict, 4, &[FORM_TYPE, ("X-aws-ec2-metadata-token", &token)], form(4, 1)).await, 204);
    assert_eq!(ask_with(&strict, 2, "GET", PATH, &[], Body::empty()).await.status.as_u16(), 404, "it is no document");
}

#[tokio::test]
async fn who_tells_too_often_is_told_so_and_may_still_ask() {
    let guests = Few::new(1);
    let service = service(&guests);
    for _ in 0..RATE.burst {
        assert_eq!(post(&service, 2, &[FORM_TYPE], form(2, 1)).await, 204);
    }
    let answer = ask_with(&service, 2, "POST", PATH, &[FORM_TYPE], form(2, 1).into()).await;
    assert_eq!((answer.status.as_u16(), answer.headers.contains_key("retry-after")), (429, true));
    assert_eq!(ask_with(&service, 2, "GET", "/user-data", &[], Body::empty()).await.status.as_u16(), 200);
    assert_eq!(post(&service, 3, &[FORM_TYPE], form(3, 1)).await, 204);
}

#[tokio::test(start_paused = true)]
async fn a_form_that_does_not_come_ends_with_its_connection() {
    let lab = lab();
    let head = |length: usize| {
        format!(
            "POST {PATH} HTTP/1.1\r\nHost: a\r\n{}: {}\r\nContent-Length: {length}\r\n\r\n",
            FORM_TYPE.0, FORM_TYPE.1
        )
    };
    let told = lab.say(2, format!("{}{}", head(form(2, 1).len()), form(2, 1)).as_bytes()).await;
    assert!(told.starts_with("HTTP/1.1 204 "), "{told}");
    let slow = lab.say(2, format!("{}instance_id=", head(100)).as_bytes()).await;
    assert!(slow.starts_with("HTTP/1.1 408 "), "{slow}");
    let long = lab.say(2, head(FORM + 1).as_bytes()).await;
    assert!(long.starts_with("HTTP/1.1 413 "), "{long}");
    let chunks = format!("400\r\n{}\r\n", "x".repeat(1024)).repeat(FORM / 1024 + 1);
    let head = head(0).replace("Content-Length: 0", "Transfer-Encoding: chunked");
    let endless = lab.say(2, format!("{head}{chunks}").as_bytes()).await;
    assert!(endless.starts_with("HTTP/1.1 413 "), "{endless}");
}
