//! A headless Chromium, driven by the DevTools protocol over a pair of pipes.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{
    io::{BufReader, Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

/// How long the browser may take to respond.
const PATIENCE: Duration = Duration::from_secs(30);

/// Possible names of the browser.
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];

/// A browser with one page.
pub(crate) struct Browser {
    child: Child,
    requests: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    number: u64,
    /// Console messages, exceptions and browser errors.
    pub(crate) complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

fn find() -> PathBuf {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::env::split_paths(&folders).flat_map(|folder| NAMES.map(|name| folder.join(name)));
    paths.into_iter().find(|path| path.is_file()).unwrap_or_else(|| {
        panic!("no browser was found ({}); on Debian: apt-get install -y chromium", NAMES.join(", "))
    })
}

impl Browser {
    pub(crate) fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol uses file descriptors 3 and 4, which a shell can set up.
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh"])
            .arg(find())
            // No sandbox, because it does not work as root in a container. No network access beyond the page.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .args(["--disable-dev-shm-usage", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (requests, answers) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            for byte in BufReader::new(answers).bytes().map_while(Result::ok) {
                if byte != 0 {
                    message.push(byte);
                } else if sender.send(serde_json::from_slice(&std::mem::take(&mut message)).unwrap()).is_err() {
                    return;
                }
            }
        });
        let complaints = Vec::new();
        let mut it = Self { child, requests, messages, session: None, number: 0, complaints, _profile: profile };
        let target = it.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let session = it.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        it.session = Some(session["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log"] {
            it.call(&format!("{domain}.enable"), json!({}));
        }
        it
    }

    /// Sends a request to the browser and returns the result.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.number += 1;
        let mut request = json!({ "id": self.number, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            request["sessionId"] = json!(session);
        }
        self.requests.write_all(format!("{request}\0").as_bytes()).unwrap();
        loop {
            let message = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("{method}: {error}"));
            if message["id"] == self.number {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            let what = &message["params"];
            match message["method"].as_str() {
                Some("Runtime.consoleAPICalled") => self.complaints.push(what["args"].to_string()),
                Some("Runtime.exceptionThrown") => self.complaints.push(what["exceptionDetails"].to_string()),
                Some("Log.entryAdded") => self.complaints.push(what["entry"].to_string()),
                _ => {}
            }
        }
    }

    /// Evaluates an expression on the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Opens an address in a window of this width, light or dark.
    pub(crate) fn open(&mut self, address: &str, width: u32, scheme: &str) {
        let is_phone = width < 600;
        let window = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": is_phone });
        self.call("Emulation.setDeviceMetricsOverride", window);
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        self.call("Page.navigate", json!({ "url": address }));
    }

    /// The whole page as a PNG.
    pub(crate) fn picture(&mut self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        BASE64_STANDARD.decode(answer["data"].as_str().unwrap()).unwrap()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The browser may already have ended.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
