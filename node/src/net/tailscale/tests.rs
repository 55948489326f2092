//! Against a server that does what tailscaled's local API does with preferences (`ipn/localapi`, `ipn/ipnlocal`, 1.90):
//! it takes one host name only, changes what is marked as set and nothing else, and refuses routes with bits beyond the
//! prefix.

use super::*;
use axum::{Json, Router, extract::State, routing::get};
use http::HeaderMap;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::{net::UnixListener, task::JoinHandle};

#[derive(Debug)]
struct Tailscaled {
    prefs: Mutex<Value>,
    writes: Mutex<u32>,
    /// Whoever asks may read only.
    read_only: bool,
}

impl Tailscaled {
    fn new(routes: Value) -> Self {
        let prefs = json!({ "ControlURL": "https://controlplane.example", "Hostname": "n1", "NoSNAT": false, "AdvertiseRoutes": routes });
        Self { prefs: Mutex::new(prefs), writes: Mutex::new(0), read_only: false }
    }

    fn start(self, socket: &Path) -> (Arc<Self>, JoinHandle<()>) {
        let listener = UnixListener::bind(socket).unwrap();
        let this = Arc::new(self);
        let router = Router::new().route(PREFS, get(read).patch(write)).with_state(this.clone());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (this, task)
    }

    fn routes(&self) -> Value {
        self.prefs.lock().unwrap()["AdvertiseRoutes"].clone()
    }

    fn writes(&self) -> u32 {
        *self.writes.lock().unwrap()
    }
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

fn welcome(headers: &HeaderMap) -> Result<(), (StatusCode, String)> {
    let host = headers.get("host").and_then(|host| host.to_str().ok()).unwrap_or_default();
    let browser = headers.contains_key("origin") || headers.contains_key("referer");
    if browser || !["", "local-tailscaled.sock"].contains(&host) {
        return Err((StatusCode::FORBIDDEN, "invalid localapi request\n".to_owned()));
    }
    Ok(())
}

async fn read(State(this): State<Arc<Tailscaled>>, headers: HeaderMap) -> Answer {
    welcome(&headers)?;
    Ok(Json(this.prefs.lock().unwrap().clone()))
}

async fn write(State(this): State<Arc<Tailscaled>>, headers: HeaderMap, body: String) -> Answer {
    welcome(&headers)?;
    if this.read_only {
        return Err((StatusCode::FORBIDDEN, "prefs write access denied\n".to_owned()));
    }
    let change: Value = serde_json::from_str(&body).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))?;
    let mut prefs = this.prefs.lock().unwrap();
    if change["AdvertiseRoutesSet"] == true {
        for route in change["AdvertiseRoutes"].as_array().into_iter().flatten() {
            let net: ipnet::IpNet = route.as_str().unwrap().parse().unwrap();
            if net.trunc() != net {
                let said = json!({ "Error": format!("route {net} has non-address bits set") });
                return Err((StatusCode::BAD_REQUEST, said.to_string()));
            }
        }
        prefs["AdvertiseRoutes"] = change["AdvertiseRoutes"].clone();
    }
    *this.writes.lock().unwrap() += 1;
    Ok(Json(prefs.clone()))
}

fn subnet() -> Ipv4Net {
    "10.77.3.0/24".parse().unwrap()
}

#[tokio::test]
async fn our_route_comes_and_goes_and_those_of_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tailscaled.sock");
    let others = json!(["0.0.0.0/0", "::/0", "192.168.10.0/24"]);
    let (tailscaled, _task) = Tailscaled::new(others.clone()).start(&socket);
    let tailscale = Tailscale::new(&socket);
    assert_eq!(tailscale.withdraw(subnet()).await.unwrap(), Advertised::Already);
    assert_eq!(tailscale.ensure(subnet()).await.unwrap(), Advertised::Changed);
    assert_eq!(tailscaled.routes(), json!(["0.0.0.0/0", "::/0", "192.168.10.0/24", "10.77.3.0/24"]));
    assert_eq!(tailscale.ensure(subnet()).await.unwrap(), Advertised::Already);
    assert_eq!(tailscaled.writes(), 1, "what is there is not written again");
    // Somebody sets the routes by hand: ours comes back, theirs stays.
    tailscaled.prefs.lock().unwrap()["AdvertiseRoutes"] = json!(["172.20.0.0/16"]);
    assert_eq!(tailscale.ensure(subnet()).await.unwrap(), Advertised::Changed);
    assert_eq!(tailscaled.routes(), json!(["172.20.0.0/16", "10.77.3.0/24"]));
    for expected in [Advertised::Changed, Advertised::Already] {
        assert_eq!(tailscale.withdraw(subnet()).await.unwrap(), expected);
        assert_eq!(tailscaled.routes(), json!(["172.20.0.0/16"]));
    }
    let rest = tailscaled.prefs.lock().unwrap().clone();
    assert_eq!((rest["Hostname"].as_str(), rest["NoSNAT"].as_bool()), (Some("n1"), Some(false)));
}

#[tokio::test]
async fn a_tailscaled_that_offers_nothing_yet_says_null() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tailscaled.sock");
    let (tailscaled, _task) = Tailscaled::new(Value::Null).start(&socket);
    // An address within the subnet stands for the subnet.
    let gateway = "10.77.3.1/24".parse().unwrap();
    assert_eq!(Tailscale::new(&socket).ensure(gateway).await.unwrap(), Advertised::Changed);
    assert_eq!(tailscaled.routes(), json!(["10.77.3.0/24"]));
}

#[tokio::test]
async fn no_tailscaled_is_no_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tailscaled.sock");
    let tailscale = Tailscale::new(&socket);
    assert_eq!(tailscale.ensure(subnet()).await.unwrap(), Advertised::NotRunning, "not installed");
    drop(UnixListener::bind(&socket).unwrap());
    assert_eq!(tailscale.withdraw(subnet()).await.unwrap(), Advertised::NotRunning, "stopped");
    // It comes up later.
    std::fs::remove_file(&socket).unwrap();
    let (_, _task) = Tailscaled::new(json!([])).start(&socket);
    assert_eq!(tailscale.ensure(subnet()).await.unwrap(), Advertised::Changed);
}

#[tokio::test]
async fn a_refusal_is_told_in_tailscaleds_words() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tailscaled.sock");
    let read_only = Tailscaled { read_only: true, ..Tailscaled::new(json!([])) };
    let (_, _task) = read_only.start(&socket);
    let error = Tailscale::new(&socket).ensure(subnet()).await.unwrap_err().to_string();
    assert_eq!(error, "tailscaled refuses to offer the guests' subnet (403 Forbidden): prefs write access denied");

    // What others offer is not ours to mend.
    let socket = dir.path().join("other.sock");
    let (_, _task) = Tailscaled::new(json!(["10.0.0.7/8"])).start(&socket);
    let error = Tailscale::new(&socket).ensure(subnet()).await.unwrap_err().to_string();
    assert!(error.ends_with("(400 Bad Request): route 10.0.0.7/8 has non-address bits set"), "{error}");
}

#[tokio::test]
async fn something_else_at_the_socket_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tailscaled.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let error = Tailscale::new(&socket).ensure(subnet()).await.unwrap_err();
    assert!(matches!(error, TailscaleError::Connection(_)), "{error:?}");
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_tailscaled_that_hangs_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("tailscaled.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let error = Tailscale::new(&socket).ensure(subnet()).await.unwrap_err();
    assert_eq!(error.to_string(), "tailscaled did not answer within 10 s");
}
