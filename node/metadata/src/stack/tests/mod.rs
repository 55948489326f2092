//! The stack against honest guests, and against packets made by hand. Time is tokio's paused clock: nothing here waits.

mod crafted;
pub(crate) mod guest;

use super::*;
use crafted::{Said, said, segment};
use guest::{Guest, Wire};
use proptest::prelude::*;
use smoltcp::wire::{Ipv4Packet, TcpControl};
use std::{net::Ipv4Addr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80);
/// Much longer than anything takes; on the paused clock it passes at once when nothing else can happen.
const LONG: Duration = Duration::from_secs(300);

fn address(guest: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, guest)
}

struct Lab {
    wire: Wire,
    to_stack: mpsc::Sender<Vec<u8>>,
    listener: Listener,
}

fn lab(limits: Limits) -> Lab {
    let (to_stack, rx) = mpsc::channel(256);
    let (tx, from_stack) = mpsc::channel(256);
    Lab { wire: Wire::new(from_stack), to_stack, listener: Stack::start(rx, tx, SERVICE, limits) }
}

impl Lab {
    fn guest(&self, number: u8) -> Guest {
        Guest::new(address(number), &self.wire, self.to_stack.clone())
    }

    /// A guest that sends what it is told.
    fn raw(&self, number: u8, port: u16) -> Raw {
        Raw {
            me: SocketAddrV4::new(address(number), port),
            rx: self.wire.attach(address(number)),
            tx: self.to_stack.clone(),
        }
    }

    async fn accept(&mut self) -> (Stream, Peer) {
        timeout(LONG, self.listener.next()).await.expect("nobody came").expect("the stack ended")
    }
}

/// Sends what was asked for `count` bytes, to whoever asks, on as many connections as there are.
fn serve_bytes(mut listener: Listener) {
    tokio::spawn(async move {
        while let Some((mut stream, Peer(peer))) = listener.next().await {
            tokio::spawn(async move {
                let count = stream.read_u32().await.ok()?;
                stream.write_all(&peer.ip().octets()).await.ok()?;
                stream.write_all(&vec![peer.ip().octets()[3]; count as usize]).await.ok()
            });
        }
    });
}

async fn fetch(guest: &Guest, port: u16, count: u32) -> Vec<u8> {
    let fetching = async {
        let mut flow = guest.connect(port, SERVICE).await.unwrap();
        flow.write_u32(count).await.unwrap();
        let mut bytes = Vec::new();
        flow.read_to_end(&mut bytes).await.unwrap();
        bytes
    };
    timeout(LONG, fetching).await.expect("no answer")
}

struct Raw {
    me: SocketAddrV4,
    rx: mpsc::Receiver<Vec<u8>>,
    tx: mpsc::Sender<Vec<u8>>,
}

impl Raw {
    async fn send(&self, control: TcpControl, seq: i32, ack: Option<i32>, window: u16, payload: &[u8]) {
        self.tx.send(segment(self.me, SERVICE, control, seq, ack, window, payload)).await.unwrap();
    }

    async fn syn(&self) {
        self.send(TcpControl::Syn, 1000, None, 60_000, b"").await;
    }

    async fn said(&mut self) -> Said {
        said(&timeout(LONG, self.rx.recv()).await.expect("silence").unwrap())
    }

    /// Nothing comes for as long as it takes until nothing can.
    async fn silence(&mut self, time: Duration) {
        if let Ok(packet) = timeout(time, self.rx.recv()).await {
            panic!("{:?}", said(&packet.unwrap()));
        }
    }

    /// Opens a connection; the next sequence number of the other side.
    async fn open(&mut self) -> i32 {
        self.syn().await;
        let answer = self.said().await;
        assert!(answer.syn && answer.ack == 1001, "{answer:?}");
        let ack = answer.seq.wrapping_add(1);
        self.send(TcpControl::None, 1001, Some(ack), 60_000, b"").await;
        ack
    }
}

#[tokio::test(start_paused = true)]
async fn each_guest_is_known_by_the_accepted_sockets_address_and_answers_carry_two_hops() {
    let mut lab = lab(Limits::default());
    let mut raw = lab.raw(5, 4000);
    raw.syn().await;
    let answer = raw.said().await;
    assert_eq!((answer.hops, answer.mss, answer.from, answer.to), (2, Some(1380), SERVICE, raw.me));
    let ack = Some(answer.seq.wrapping_add(1));
    raw.send(TcpControl::Psh, 1001, ack, 60_000, b"hello").await;
    let (mut stream, peer) = lab.accept().await;
    assert_eq!(peer, Peer(raw.me));
    let mut hello = [0; 5];
    stream.read_exact(&mut hello).await.unwrap();
    stream.write_all(b"you too").await.unwrap();
    let answer = raw.said().await;
    assert_eq!(
        (&hello, answer.payload.as_slice(), answer.hops, answer.ack),
        (b"hello", b"you too".as_slice(), 2, 1006)
    );
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_syn_never_mixes_up_two_guests_with_the_same_port() {
    let mut lab = lab(Limits::default());
    let (mut one, mut two) = (lab.raw(1, 4000), lab.raw(2, 4000));
    // Each SYN arrives three times, in turns, as after a loss of the answers.
    for _ in 0..3 {
        one.syn().await;
        two.syn().await;
    }
    let (to_one, to_two) = (one.said().await, two.said().await);
    two.send(TcpControl::Psh, 1001, Some(to_two.seq.wrapping_add(1)), 60_000, b"two").await;
    two.syn().await;
    one.syn().await;
    one.send(TcpControl::Psh, 1001, Some(to_one.seq.wrapping_add(1)), 60_000, b"one").await;
    for _ in 0..2 {
        let (mut stream, Peer(peer)) = lab.accept().await;
        let mut word = [0; 3];
        stream.read_exact(&mut word).await.unwrap();
        let expected = if peer.ip() == one.me.ip() { b"one" } else { b"two" };
        assert_eq!((peer.port(), &word), (4000, expected));
        stream.write_all(&word).await.unwrap();
        drop(stream);
    }
    for (raw, word) in [(&mut one, b"one"), (&mut two, b"two")] {
        loop {
            let answer = raw.said().await;
            if !answer.payload.is_empty() {
                assert_eq!(answer.payload, word);
                break;
            }
        }
    }
    assert!(timeout(LONG, lab.listener.next()).await.is_err(), "a duplicate was taken for a third connection");
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_spoofed_syns_starves_nobody() {
    let lab = lab(Limits::default());
    let guest = lab.guest(250);
    let tx = lab.to_stack.clone();
    serve_bytes(lab.listener);
    tokio::spawn(async move {
        // 200,000 a second.
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        for round in 0_u16.. {
            tick.tick().await;
            for source in 1..=200_u8 {
                let from = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, source), 1000 + round % 50_000);
                if tx.send(segment(from, SERVICE, TcpControl::Syn, 7, None, 60_000, b"")).await.is_err() {
                    return;
                }
            }
        }
    });
    let started = tokio::time::Instant::now();
    for port in 5000..5020 {
        assert_eq!(fetch(&guest, port, 10_000).await.len(), 10_004);
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn one_source_cannot_have_more_than_its_share_of_half_open_connections() {
    let lab = lab(Limits { half_open_per_source: 3, ..Limits::default() });
    let mut raw = lab.raw(1, 0);
    for port in 1..=5 {
        raw.me.set_port(port);
        raw.syn().await;
    }
    let mut answered = Vec::new();
    // The fourth and fifth are never answered; each of the others is reaped after three seconds, its answer repeated meanwhile.
    while let Ok(Some(packet)) = timeout(Duration::from_secs(20), raw.rx.recv()).await {
        answered.push(said(&packet).to.port());
    }
    answered.sort_unstable();
    answered.dedup();
    assert_eq!(answered, [1, 2, 3]);
    // After that there is room again, and a late ACK of the reaped is answered with RST.
    raw.me.set_port(4);
    raw.syn().await;
    assert!(raw.said().await.syn);
    raw.me.set_port(1);
    raw.send(TcpControl::None, 1001, Some(1), 100, b"").await;
    let answer = raw.said().await;
    assert_eq!((answer.rst, answer.hops), (true, 2));
}

#[tokio::test(start_paused = true)]
async fn bodies_of_every_size_arrive_whole_and_many_connections_follow_each_other() {
    let lab = lab(Limits::default());
    let (one, two) = (lab.guest(1), lab.guest(2));
    serve_bytes(lab.listener);
    for (n, size) in [0, 1, 1380, 1381, 32_768, 32_769, 5_000_000].into_iter().enumerate() {
        let port = 2000 + u16::try_from(n).unwrap();
        let (of_one, of_two) = tokio::join!(fetch(&one, port, size), fetch(&two, port, size));
        assert_eq!((&of_one[..4], of_one.len()), (&[10, 77, 0, 1][..], size as usize + 4));
        assert!(of_one[4..].iter().all(|byte| *byte == 1) && of_two[4..].iter().all(|byte| *byte == 2));
    }
    // More than may be open, so each has to be gone when it is over; and the ports are the same again and again.
    let started = tokio::time::Instant::now();
    for n in 0..500 {
        assert_eq!(fetch(&one, 3000 + n % 90, 100).await.len(), 104);
    }
    assert!(started.elapsed() < LONG);
}

#[tokio::test(start_paused = true)]
async fn what_is_lost_is_sent_again() {
    let mut lab = lab(Limits::default());
    let mut raw = lab.raw(1, 4000);
    let ack = raw.open().await;
    let (mut stream, _) = lab.accept().await;
    stream.write_all(b"lost").await.unwrap();
    let first = raw.said().await;
    // No acknowledgement: the same comes again.
    assert_eq!(raw.said().await, first);
    raw.send(TcpControl::Psh, 1001, Some(ack.wrapping_add(4)), 60_000, b"thanks").await;
    // And what comes twice is read once.
    raw.send(TcpControl::Psh, 1001, Some(ack.wrapping_add(4)), 60_000, b"thanks").await;
    raw.send(TcpControl::Fin, 1007, Some(ack.wrapping_add(4)), 60_000, b"").await;
    let mut heard = Vec::new();
    timeout(LONG, stream.read_to_end(&mut heard)).await.unwrap().unwrap();
    assert_eq!(heard, b"thanks");
}

#[tokio::test(start_paused = true)]
async fn a_reset_is_seen_by_the_stream_and_frees_the_port() {
    let mut lab = lab(Limits::default());
    let mut raw = lab.raw(1, 4000);
    let ack = raw.open().await;
    let (mut stream, _) = lab.accept().await;
    raw.send(TcpControl::Rst, 1001, Some(ack), 0, b"").await;
    let error = timeout(LONG, stream.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    // The stream is still held, but the port opens anew.
    raw.open().await;
    let (mut again, peer) = lab.accept().await;
    assert_eq!(peer, Peer(raw.me));
    drop(stream);
    again.write_all(b"alive").await.unwrap();
    assert_eq!(raw.said().await.payload, b"alive");
    // A RST in the handshake leaves nothing to accept.
    raw.me.set_port(4001);
    raw.syn().await;
    assert!(raw.said().await.syn);
    raw.send(TcpControl::Rst, 1001, None, 0, b"").await;
    assert!(timeout(LONG, lab.listener.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_window_that_stays_closed_is_given_up_and_one_that_opens_is_filled() {
    let mut lab = lab(Limits::default());
    let mut raw = lab.raw(1, 4000);
    let ack = raw.open().await;
    let (mut stream, _) = lab.accept().await;
    raw.send(TcpControl::None, 1001, Some(ack), 0, b"").await;
    raw.send(TcpControl::Psh, 1001, Some(ack), 0, b"?").await;
    stream.read_u8().await.unwrap();
    stream.write_all(b"patience").await.unwrap();
    // Probes are answered, so TCP alone would never end.
    let mut opened = false;
    let started = tokio::time::Instant::now();
    loop {
        let probe = raw.said().await;
        if probe.payload == b"patience" {
            break;
        }
        if started.elapsed() > Duration::from_secs(10) {
            opened = true;
            raw.send(TcpControl::None, 1002, Some(ack), 1000, b"").await;
        } else {
            raw.send(TcpControl::None, 1002, Some(ack), 0, b"").await;
        }
    }
    assert!(opened);
    raw.send(TcpControl::None, 1002, Some(ack.wrapping_add(8)), 0, b"").await;
    stream.write_all(b"more").await.unwrap();
    while !raw.said().await.rst {
        raw.send(TcpControl::None, 1002, Some(ack.wrapping_add(8)), 0, b"").await;
    }
    let error = stream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_its_side_is_reset_when_its_time_is_up() {
    let mut lab = lab(Limits::default());
    let mut raw = lab.raw(1, 4000);
    let ack = raw.open().await;
    let (stream, _) = lab.accept().await;
    let started = tokio::time::Instant::now();
    drop(stream);
    assert!(raw.said().await.fin);
    for second in 0.. {
        // It keeps talking, so silence does not end it either.
        raw.send(TcpControl::Psh, 1001 + second, Some(ack.wrapping_add(1)), 1000, b".").await;
        if raw.said().await.rst {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let lingered = started.elapsed();
    assert!(lingered >= Duration::from_secs(30) && lingered < Duration::from_secs(33), "{lingered:?}");
}

#[tokio::test(start_paused = true)]
async fn the_source_with_most_connections_makes_room_for_another() {
    let mut lab = lab(Limits { connections: 4, ..Limits::default() });
    let mut greedy = lab.raw(1, 0);
    let mut held = Vec::new();
    for port in 1..=4 {
        greedy.me.set_port(port);
        greedy.open().await;
        held.push(lab.accept().await);
    }
    greedy.me.set_port(5);
    greedy.open().await;
    let refused = greedy.said().await;
    assert_eq!((refused.rst, refused.to.port()), (true, 5));
    let mut modest = lab.raw(2, 1);
    modest.open().await;
    held.push(lab.accept().await);
    let evicted = greedy.said().await;
    assert_eq!((evicted.rst, evicted.to.port()), (true, 1));
    assert!(held[0].0.read_u8().await.is_err());
    assert_eq!(held[4].1, Peer(modest.me));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_for_the_service_or_is_damaged_is_dropped_without_an_answer() {
    let mut lab = lab(Limits::default());
    let mut raw = lab.raw(1, 4000);
    let syn = |to| segment(raw.me, to, TcpControl::Syn, 1, None, 1000, b"");
    let good = syn(SERVICE);
    let changed = |change: &dyn Fn(&mut Ipv4Packet<&mut [u8]>)| {
        let mut bytes = good.clone();
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        change(&mut packet);
        packet.fill_checksum();
        bytes
    };
    let mut wrong_ip_sum = good.clone();
    wrong_ip_sum[10] ^= 1;
    let mut wrong_tcp_sum = good.clone();
    wrong_tcp_sum[24] ^= 1;
    let ours = segment(SocketAddrV4::new(*SERVICE.ip(), 80), SERVICE, TcpControl::Syn, 1, None, 1000, b"");
    for packet in [
        syn(SocketAddrV4::new(*SERVICE.ip(), 81)),
        syn(SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 253), 80)),
        changed(&|ip| ip.set_more_frags(true)),
        changed(&|ip| ip.set_frag_offset(8)),
        changed(&|ip| ip.set_next_header(smoltcp::wire::IpProtocol::Udp)),
        changed(&|ip| ip.set_next_header(smoltcp::wire::IpProtocol::Icmp)),
        changed(&|ip| ip.set_version(6)),
        wrong_ip_sum,
        wrong_tcp_sum,
        ours,
        good[..39].to_vec(),
        Vec::new(),
    ] {
        raw.tx.send(packet).await.unwrap();
    }
    raw.silence(LONG).await;
    // IP options are nobody's reason to be refused.
    let mut with_options = vec![0; good.len() + 4];
    with_options[..20].copy_from_slice(&good[..20]);
    with_options[20..24].copy_from_slice(&[1, 1, 1, 0]);
    with_options[24..].copy_from_slice(&good[20..]);
    let mut packet = Ipv4Packet::new_unchecked(&mut with_options[..]);
    packet.set_header_len(24);
    packet.set_total_len(u16::try_from(good.len() + 4).unwrap());
    packet.fill_checksum();
    raw.tx.send(with_options).await.unwrap();
    assert!(raw.said().await.syn);
    assert!(timeout(Duration::from_secs(1), lab.listener.next()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn streams_fail_when_the_packets_end_and_the_listener_says_so() {
    let (to_stack, rx) = mpsc::channel(16);
    let (tx, from_stack) = mpsc::channel(16);
    let mut listener = Stack::start(rx, tx, SERVICE, Limits::default());
    let wire = Wire::new(from_stack);
    let mut raw = Raw { me: SocketAddrV4::new(address(1), 1), rx: wire.attach(address(1)), tx: to_stack };
    raw.open().await;
    let (mut stream, _) = listener.next().await.unwrap();
    drop(raw);
    assert!(timeout(LONG, stream.read_u8()).await.unwrap().is_err());
    assert!(timeout(LONG, listener.next()).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_takes_nothing_holds_data_back_and_loses_none() {
    let (to_stack, rx) = mpsc::channel(4);
    let (tx, mut from_stack) = mpsc::channel(1);
    let mut listener = Stack::start(rx, tx, SERVICE, Limits::default());
    let mut streams = Vec::new();
    for port in 1..=40 {
        let me = SocketAddrV4::new(address(1), port);
        to_stack.send(segment(me, SERVICE, TcpControl::Syn, 1000, None, 60_000, b"")).await.unwrap();
        let answer = said(&timeout(LONG, from_stack.recv()).await.unwrap().unwrap());
        let ack = Some(answer.seq.wrapping_add(1));
        to_stack.send(segment(me, SERVICE, TcpControl::None, 1001, ack, 60_000, b"")).await.unwrap();
        streams.push(timeout(LONG, listener.next()).await.unwrap().unwrap().0);
    }
    // Nobody takes anything meanwhile, and what 40 connections say does not fit anywhere.
    for stream in &mut streams {
        stream.write_all(&[7; 32_000]).await.unwrap();
    }
    let mut pieces = std::collections::BTreeMap::new();
    while pieces.values().sum::<usize>() < 40 * 32_000 {
        let answer = said(&timeout(LONG, from_stack.recv()).await.expect("held back for ever").unwrap());
        pieces.insert((answer.to.port(), answer.seq), answer.payload.len());
    }
}

/// Any bytes, and segments that are right in all but some of their fields.
fn garbage() -> impl Strategy<Value = Vec<u8>> {
    let fields = (any::<u8>(), 0..4_u16, any::<u8>(), any::<i32>(), any::<Option<i32>>(), any::<u16>(), 0..3000_usize);
    let near = fields.prop_map(|(source, port, control, seq, ack, window, payload)| {
        let control = [TcpControl::None, TcpControl::Psh, TcpControl::Syn, TcpControl::Fin, TcpControl::Rst]
            [control as usize % 5];
        let near_seq = if window % 3 == 0 { 1001 + seq % 20_000 } else { seq };
        segment(
            SocketAddrV4::new(address(source % 4), port),
            SERVICE,
            control,
            near_seq,
            ack,
            window,
            &vec![b'G'; payload],
        )
    });
    let flipped = (near.clone(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut packet, at, bits)| {
        let at = at.index(packet.len());
        packet[at] ^= bits;
        packet
    });
    prop_oneof![prop::collection::vec(any::<u8>(), 0..80), near, flipped]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever comes, an honest guest is served afterwards, and what is kept stays within the limits.
    #[test]
    fn garbage_neither_ends_the_stack_nor_fills_it(packets in prop::collection::vec(garbage(), 1..400)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let limits = Limits { connections: 8, per_source: 4, half_open: 4, half_open_per_source: 2 };
            let lab = lab(limits);
            let mut raw = lab.raw(2, 2);
            let guest = lab.guest(200);
            let tx = lab.to_stack.clone();
            serve_bytes(lab.listener);
            // One connection that the garbage can hit in an established state.
            raw.open().await;
            for packet in packets {
                tx.send(packet).await.unwrap();
            }
            assert_eq!(fetch(&guest, 999, 1000).await.len(), 1004);
        });
    }
}
