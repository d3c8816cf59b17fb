//! What the tests of sources share: folders, programs, a small HTTP server.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// A folder that is removed at the end.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("lade-test-{}-{count}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Folder(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs a program to its success and returns its output; names the package if it is missing.
pub fn run(program: &str, package: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    let output = output.unwrap_or_else(|err| {
        panic!("{program}: {err}: this test needs the Debian package {package}")
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

pub fn skopeo(args: &[&str]) {
    let mut all = vec!["--insecure-policy"];
    all.extend(args);
    run("skopeo", "skopeo", &all);
}

/// Makes a layout with one image `v1` of two layers, the first `size` bytes of noise and more.
pub fn make_layout(dir: &Folder, size: usize) -> String {
    let layout = dir.text("layout");
    let image = format!("{layout}:v1");
    let mut seed = 7u64;
    let noise = std::iter::repeat_with(|| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u8
    });
    let noise: Vec<u8> = noise.take(size).collect();
    dir.write("noise", noise);
    dir.write("hello", "hello\n");
    let umoci = |args: &[&str]| run("umoci", "umoci", args);
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--rootless", "--image", &image, &dir.text("noise"), "/noise"]);
    umoci(&["insert", "--rootless", "--image", &image, &dir.text("hello"), "/hello"]);
    umoci(&["config", "--image", &image, "--os", "linux", "--architecture", "amd64"]);
    layout
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Debian's docker-registry on a port of loopback that the kernel chooses.
pub struct DockerRegistry {
    child: Child,
    pub host: String,
}

impl DockerRegistry {
    /// `http` and `auth` are lines of its configuration's sections.
    pub fn start(dir: &Folder, http: &str, auth: &str) -> DockerRegistry {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("registry-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let data = dir.text("registry-data");
        let config = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage:\n  filesystem:\n    rootdirectory: {data}\n\
             http:\n  addr: 127.0.0.1:0\n{http}{auth}"
        );
        let config = dir.write(&format!("{name}.yml"), config);
        let log = dir.write(&format!("{name}.log"), "");
        let child = Command::new("docker-registry")
            .args(["serve".as_ref(), config.as_os_str()])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|err| {
                panic!("docker-registry: {err}: needs the Debian package docker-registry")
            });
        let mut registry = DockerRegistry { child, host: String::new() };
        registry.host = registry.wait_for_address(&log);
        registry
    }

    /// The address that it says it listens on: no other program's, however many ask for ports.
    fn wait_for_address(&mut self, log: &Path) -> String {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let ended = self.child.try_wait().unwrap();
            let said = std::fs::read_to_string(log).unwrap();
            let address = said.split_once("msg=\"listening on ").map(|(_, rest)| rest);
            if let Some((address, _)) = address.and_then(|rest| rest.split_once(['"', ','])) {
                return address.to_owned();
            }
            let waits = ended.is_none() && Instant::now() < deadline;
            assert!(waits, "docker-registry does not start ({ended:?}): {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A request that a [`Server`] got.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: HashMap<String, String>,
    pub body: String,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// What a [`Server`] answers.
#[derive(Clone, Default)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Bytes of the body after which the connection is cut.
    pub cut: Option<usize>,
    /// Time to wait where it would be cut.
    pub stall: Duration,
}

impl Answer {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Answer {
        Answer { status, body: body.into(), ..Answer::default() }
    }

    pub fn with(mut self, name: &str, value: impl Into<String>) -> Answer {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// An HTTP server in a thread, for answers that no well-behaved registry gives.
pub struct Server {
    pub address: SocketAddr,
    log: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept) = (Arc::new(answer), log.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, log) = (answer.clone(), kept.clone());
                std::thread::spawn(move || serve(stream, &*answer, &log));
            }
        });
        Server { address, log }
    }

    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The requests so far whose path holds `part`.
    pub fn asked(&self, part: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|asked| asked.path.contains(part)).cloned().collect()
    }
}

fn serve(stream: TcpStream, answer: &dyn Fn(&Asked) -> Answer, log: &Mutex<Vec<Asked>>) {
    let Some(asked) = read_request(&stream) else { return };
    log.lock().unwrap().push(asked.clone());
    let answer = answer(&asked);
    let mut head = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", answer.body.len());
    let end = answer.cut.unwrap_or(answer.body.len()).min(answer.body.len());
    let mut stream = stream;
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&answer.body[..end]);
    std::thread::sleep(answer.stall);
}

fn read_request(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let mut asked = Asked {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        ..Asked::default()
    };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        asked.headers.insert(name.to_lowercase(), value.to_owned());
    }
    let length: usize = asked.header("content-length").parse().unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    asked.body = String::from_utf8(body).ok()?;
    Some(asked)
}

/// An authority and a certificate for 127.0.0.1 signed by it: `ca.crt`, `server.crt`,
/// `server.key`, and the same as `client.*`.
pub fn make_certificates(dir: &Folder) {
    let openssl = |args: &[&str]| run("openssl", "openssl", args);
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
    let (ca, ca_key) = (dir.text("ca.crt"), dir.text("ca.key"));
    let mut args = vec!["req", "-x509", "-days", "2", "-subj", "/CN=test authority"];
    args.extend(key);
    args.extend(["-keyout", &ca_key, "-out", &ca]);
    openssl(&args);
    let extensions =
        dir.write("ext", "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n");
    for name in ["server", "client"] {
        let file = |end: &str| dir.text(&format!("{name}.{end}"));
        let mut args = vec!["req", "-subj", "/CN=test"];
        args.extend(key);
        let (out_key, out_csr, out) = (file("key"), file("csr"), file("crt"));
        args.extend(["-keyout", &out_key, "-out", &out_csr]);
        openssl(&args);
        openssl(&[
            "x509",
            "-req",
            "-days",
            "2",
            "-in",
            &out_csr,
            "-CA",
            &ca,
            "-CAkey",
            &ca_key,
            "-CAcreateserial",
            "-extfile",
            extensions.to_str().unwrap(),
            "-out",
            &out,
        ]);
    }
}

/// A certificate for 127.0.0.1 that is its own authority.
pub fn make_self_signed(cert: &str, key: &str) {
    run(
        "openssl",
        "openssl",
        &[
            "req",
            "-x509",
            "-days",
            "2",
            "-subj",
            "/CN=alone",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            key,
            "-out",
            cert,
        ],
    );
}

/// The bytes of a file below a folder.
pub fn bytes(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}
