//! A token service (OIDC, client credentials) whose tokens are signed with ES256.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::{KeyPair, PublicKeyData, SigningKey};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

pub(super) const AUDIENCE: &str = "kafka";
pub(super) const ISSUER: &str = "https://tokens.example";

pub(super) struct TokenService {
    port: u16,
    key: Arc<KeyPair>,
}

impl TokenService {
    /// Answers at the paths `/good`, `/expired`, `/stranger` (signed with another key) and `/refused`.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let it = Self { port: listener.local_addr().unwrap().port(), key: Arc::new(KeyPair::generate().unwrap()) };
        let (key, stranger) = (Arc::clone(&it.key), KeyPair::generate().unwrap());
        // It ends with the process of the tests.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A client that goes away concerns only its own case.
                answer(stream, &key, &stranger).unwrap_or_default();
            }
        });
        it
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    /// The keys that a broker trusts (JWKS).
    pub(super) fn keys(&self) -> String {
        // An uncompressed point: 4, x, y.
        let point = self.key.der_bytes();
        let (x, y) = point[1..].split_at(32);
        let key = json!({
            "kty": "EC", "crv": "P-256", "kid": "own", "use": "sig", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        });
        json!({ "keys": [key] }).to_string()
    }
}

fn answer(stream: TcpStream, key: &KeyPair, stranger: &KeyPair) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    reader.read_exact(&mut vec![0; length])?;
    let path = first.split_whitespace().nth(1).unwrap_or_default().trim_start_matches('/');
    let (status, body) = match path {
        "good" => ("200 OK", issued(key, 600)),
        "expired" => ("200 OK", issued(key, -100)),
        "stranger" => ("200 OK", issued(stranger, 600)),
        _ => ("401 Unauthorized", json!({"error": "invalid_client", "error_description": "the secret is wrong"})),
    };
    let body = body.to_string();
    let mut stream = stream;
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn issued(key: &KeyPair, seconds: i64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let (head, claims) = (
        json!({"alg": "ES256", "typ": "JWT", "kid": "own"}),
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "token", "iat": now - 700, "exp": now + seconds, "scope": "kafka"}),
    );
    let [head, claims] = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{head}.{claims}");
    let signature = raw(&key.sign(signed.as_bytes()).unwrap());
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    json!({"access_token": token, "token_type": "Bearer", "expires_in": seconds})
}

/// A signature as tokens have it: both numbers with 32 bytes each, out of their encoding in DER.
fn raw(der: &[u8]) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut out = Vec::new();
    for _ in 0..2 {
        let length = usize::from(rest[1]);
        let number = &rest[2..2 + length];
        let number = &number[length.saturating_sub(32)..];
        out.resize(out.len() + 32 - number.len(), 0);
        out.extend_from_slice(number);
        rest = &rest[2 + length..];
    }
    out
}
