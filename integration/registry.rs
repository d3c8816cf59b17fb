//! lade's sources against real registries, layouts and archives, and against servers that
//! misbehave. Needs the Debian packages docker-registry, skopeo, umoci, openssl, apache2-utils.

mod support;

use std::io::{Read, Write};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use tare::error::{Error, Result};
use tare::image::http::Timing;
use tare::image::media;
use tare::image::reference::Reference;
use tare::image::registry::Registry;
use tare::image::source::{self, Descriptor, Digest, Image, Options, Platform, Source};

use support::{
    Answer, Asked, DockerRegistry, Folder, Server, bytes, make_certificates, make_layout,
    make_self_signed, run, skopeo,
};

/// Options that see nothing of this machine's own configuration.
fn options(dir: &Folder) -> Options {
    std::fs::create_dir_all(dir.path("no-hosts")).unwrap();
    Options {
        platform: Platform::parse("linux/amd64").unwrap(),
        hosts_dir: Some(dir.path("no-hosts")),
        authfile: Some(dir.write("no-auth.json", "{}")),
        ..Options::default()
    }
}

fn creds(user: &str, password: &str) -> Option<(String, String)> {
    Some((user.to_owned(), password.to_owned()))
}

fn read(source: &dyn Source, of: &Descriptor, offset: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source
        .blob(of, offset)
        .map_err(|err| std::io::Error::other(err.to_string()))?
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Opens, resolves and reads everything; every byte is verified.
fn pull(reference: &str, options: &Options) -> Result<Image> {
    let source = source::open(reference, options)?;
    let image = source::resolve(&*source, &options.platform)?;
    assert!(image.manifest_digest.matches(&image.manifest));
    for part in image.layers.iter().chain([&image.config]) {
        let bytes = read(&*source, part, 0).map_err(|err| Error::io("read", &err))?;
        assert_eq!(bytes.len() as u64, part.size);
        assert!(part.digest.matches(&bytes), "{reference}: {}", part.digest);
    }
    Ok(image)
}

fn refusal(reference: &str, options: &Options) -> String {
    pull(reference, options).expect_err("a refusal").to_string()
}

fn push(layout: &str, target: &str, more: &[&str]) {
    let mut args = vec!["copy", "--dest-tls-verify=false"];
    args.extend(more);
    let (from, to) = (format!("oci:{layout}:v1"), format!("docker://{target}"));
    args.extend([from.as_str(), to.as_str()]);
    skopeo(&args);
}

#[test]
fn plain_registry_by_tag_digest_and_platform() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 300_000);
    let registry = DockerRegistry::start(&dir, "", "");
    let name = format!("{}/team/app", registry.host);
    push(&layout, &format!("{name}:v1"), &[]);
    push(&layout, &format!("{name}:docker"), &["--format", "v2s2"]);
    let options = options(&dir);
    let image = pull(&format!("{name}:v1"), &options).unwrap();
    assert_eq!((image.layers.len(), image.name.as_str()), (2, format!("{name}:v1").as_str()));
    let docker = pull(&format!("docker://{name}:docker"), &options).unwrap();
    assert!(docker.config.media_type.contains("docker"));
    let pinned = format!("{name}@{}", image.manifest_digest);
    assert_eq!(pull(&pinned, &options).unwrap().manifest, image.manifest);
    let localhost = format!("{name}:v1").replace("127.0.0.1", "localhost");
    assert_eq!(pull(&localhost, &options).unwrap().manifest, image.manifest);

    let none = refusal(&format!("{name}:none"), &options);
    assert!(none.contains("404") && none.contains("manifest unknown"), "{none}");
    let arm = Options { platform: Platform::parse("linux/arm64").unwrap(), ..options.clone() };
    assert!(
        refusal(&format!("{name}:v1"), &arm)
            .contains("the image is for linux/amd64, not linux/arm64")
    );
    pull(&pinned, &arm).unwrap();
    let tls = Options { ca: Some(dir.path("nothing")), ..options.clone() };
    assert!(refusal(&format!("{name}:v1"), &tls).contains("no such file"));
}

#[test]
fn an_index_in_a_real_registry() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 100);
    let registry = DockerRegistry::start(&dir, "", "");
    let name = format!("{}/app", registry.host);
    let options = options(&dir);
    push(&layout, &format!("{name}:amd64"), &[]);
    let image = format!("{layout}:v1");
    run("umoci", "umoci", &["config", "--image", &image, "--architecture", "arm64"]);
    push(&layout, &format!("{name}:arm64"), &[]);
    let arm = Options { platform: Platform::parse("linux/arm64").unwrap(), ..options.clone() };
    let images = [
        pull(&format!("{name}:amd64"), &options).unwrap(),
        pull(&format!("{name}:arm64"), &arm).unwrap(),
    ];
    let entry = |image: &Image, architecture| {
        serde_json::json!({"mediaType": media::OCI_MANIFEST, "digest": image.manifest_digest,
            "size": image.manifest.len(), "platform": {"os": "linux", "architecture": architecture}})
    };
    let index = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_INDEX,
        "manifests": [entry(&images[0], "amd64"), entry(&images[1], "arm64")]});
    let put = ureq::put(format!("http://{}/v2/app/manifests/all", registry.host))
        .header("content-type", media::OCI_INDEX)
        .send(index.to_string());
    assert_eq!(put.unwrap().status(), 201);
    for (options, image) in [&options, &arm].into_iter().zip(&images) {
        let found = pull(&format!("{name}:all"), options).unwrap();
        assert_eq!(found.manifest_digest, image.manifest_digest);
    }
    let riscv = Options { platform: Platform::parse("linux/riscv64").unwrap(), ..options };
    let err = refusal(&format!("{name}:all"), &riscv);
    assert!(err.contains("no image for linux/riscv64") && err.contains("linux/amd64, linux/arm64"));
}

#[test]
fn blobs_are_read_from_an_offset() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 100_000);
    let registry = DockerRegistry::start(&dir, "", "");
    let name = format!("{}/app:v1", registry.host);
    push(&layout, &name, &[]);
    for reference in [name, format!("oci:{layout}:v1")] {
        let source = source::open(&reference, &options(&dir)).unwrap();
        let image = source::resolve(&*source, &Platform::host()).unwrap();
        let layer = &image.layers[0];
        let whole = read(&*source, layer, 0).unwrap();
        for offset in [1, 4096, layer.size - 1, layer.size] {
            let part = read(&*source, layer, offset).unwrap();
            assert_eq!(part, whole[offset as usize..], "{reference} {offset}");
        }
        assert!(read(&*source, layer, layer.size + 1).is_err());
    }
}

fn htpasswd(dir: &Folder, user: &str, password: &str) -> String {
    let line = run("htpasswd", "apache2-utils", &["-Bbn", user, password]);
    let file = dir.write("htpasswd", line);
    format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", file.display())
}

#[test]
fn password_from_options_and_file() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 10);
    let registry = DockerRegistry::start(&dir, "", &htpasswd(&dir, "me", "se:cret"));
    let name = format!("{}/app:v1", registry.host);
    push(&layout, &name, &["--dest-creds", "me:se:cret"]);
    let anonymous = options(&dir);
    assert!(refusal(&name, &anonymous).contains("--creds"));
    pull(&name, &Options { creds: creds("me", "se:cret"), ..anonymous.clone() }).unwrap();
    let wrong = refusal(&name, &Options { creds: creds("me", "wrong-one"), ..anonymous.clone() });
    assert!(wrong.contains("401") && !wrong.contains("wrong-one"), "{wrong}");
    let auth = STANDARD.encode("me:se:cret");
    let file = format!(r#"{{"auths":{{"{}":{{"auth":"{auth}"}}}}}}"#, registry.host);
    let authfile = Some(dir.write("auth.json", file));
    pull(&name, &Options { authfile, ..anonymous.clone() }).unwrap();
    let authfile = Some(dir.path("absent.json"));
    assert!(refusal(&name, &Options { authfile, ..anonymous }).contains("absent.json"));
}

/// The helper has to be in PATH, which is a process's own: this test runs itself again with it.
#[test]
fn password_from_a_helper() {
    const NAME: &str = "LADE_TEST_HELPER_NAME";
    if let Ok(name) = std::env::var(NAME) {
        let dir = Folder::new();
        let authfile = Some(std::env::var("LADE_TEST_AUTHFILE").unwrap().into());
        pull(&name, &Options { authfile, ..options(&dir) }).unwrap();
        return;
    }
    let dir = Folder::new();
    let layout = make_layout(&dir, 10);
    let registry = DockerRegistry::start(&dir, "", &htpasswd(&dir, "me", "secret"));
    let name = format!("{}/app:v1", registry.host);
    push(&layout, &name, &["--dest-creds", "me:secret"]);
    let script = format!(
        "#!/bin/sh\nread server\n[ \"$1 $server\" = \"get {}\" ] || {{ echo credentials not found; exit 1; }}\n\
         echo '{{\"ServerURL\":\"x\",\"Username\":\"me\",\"Secret\":\"secret\"}}'\n",
        registry.host
    );
    let helper = dir.write("bin/docker-credential-lade-test", script);
    run("chmod", "coreutils", &["755", helper.to_str().unwrap()]);
    let again = |config: String| {
        let authfile = dir.write("config.json", config);
        let path = format!("{}:{}", dir.text("bin"), std::env::var("PATH").unwrap());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "password_from_a_helper"]).env("PATH", path);
        command.env(NAME, &name).env("LADE_TEST_AUTHFILE", authfile);
        command.output().unwrap()
    };
    let per_host = format!(r#"{{"credHelpers":{{"{}":"lade-test"}}}}"#, registry.host);
    for config in [r#"{"credsStore":"lade-test"}"#.to_owned(), per_host] {
        let output = again(config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
    assert!(!again("{}".to_owned()).status.success());
}

#[test]
fn tls_with_an_own_authority() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 10);
    make_certificates(&dir);
    let (cert, key) = (dir.text("server.crt"), dir.text("server.key"));
    let tls = format!("  tls:\n    certificate: {cert}\n    key: {key}\n");
    let registry = DockerRegistry::start(&dir, &tls, "");
    let name = format!("{}/app:v1", registry.host);
    push(&layout, &name, &[]);
    let plain = options(&dir);
    pull(&name, &Options { ca: Some(dir.path("ca.crt")), ..plain.clone() }).unwrap();
    pull(&name, &Options { insecure_skip_verify: true, ..plain.clone() }).unwrap();
    let unknown = refusal(&name, &plain);
    assert!(unknown.contains("UnknownIssuer") && unknown.contains("--ca FILE"), "{unknown}");
    let http = refusal(&name, &Options { plain_http: true, ..plain.clone() });
    assert!(http.contains("400"), "{http}");
    let no_pem = Options { ca: Some(dir.path("noise")), ..plain.clone() };
    assert!(refusal(&name, &no_pem).contains("no PEM certificate"));
    let (alone, alone_key) = (dir.text("alone.crt"), dir.text("alone.key"));
    make_self_signed(&alone, &alone_key);
    let tls = format!("  tls:\n    certificate: {alone}\n    key: {alone_key}\n");
    let other = DockerRegistry::start(&dir, &tls, "");
    let options = Options { ca: Some(dir.path("alone.crt")), ..plain.clone() };
    let err = refusal(&format!("{}/app:v1", other.host), &options);
    assert!(err.contains("an authority itself"), "{err}");
    // Docker's folder for the host.
    dir.write(&format!("certs.d/{}/ca.crt", registry.host), bytes(&dir.path("ca.crt")));
    pull(&name, &Options { hosts_dir: Some(dir.path("certs.d")), ..plain }).unwrap();
}

#[test]
fn client_certificates() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 10);
    make_certificates(&dir);
    let tls = |more: String| {
        let (cert, key) = (dir.text("server.crt"), dir.text("server.key"));
        format!("  tls:\n    certificate: {cert}\n    key: {key}\n{more}")
    };
    let open = DockerRegistry::start(&dir, &tls(String::new()), "");
    push(&layout, &format!("{}/app:v1", open.host), &[]);
    let wanted = tls(format!("    clientcas: [{}]\n", dir.text("ca.crt")));
    let registry = DockerRegistry::start(&dir, &wanted, "");
    let name = format!("{}/app:v1", registry.host);
    let without = Options { ca: Some(dir.path("ca.crt")), ..options(&dir) };
    refusal(&name, &without);
    let with = |cert: &str, key: &str| Options {
        client_cert: Some(dir.path(cert)),
        client_key: Some(dir.path(key)),
        ..without.clone()
    };
    pull(&name, &with("client.crt", "client.key")).unwrap();
    let other = refusal(&name, &with("client.crt", "server.key"));
    assert!(other.contains("client key"), "{other}");
    assert!(refusal(&name, &with("client.crt", "noise")).contains("client key"));
}

#[test]
fn mirrors_of_hosts_toml() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 10);
    let registry = DockerRegistry::start(&dir, "", "");
    push(&layout, &format!("{}/app:v1", registry.host), &[]);
    let dead = support::free_port();
    let toml = format!("[host.\"http://127.0.0.1:{dead}\"]\n[host.\"http://{}\"]\n", registry.host);
    dir.write("hosts/registry.invalid/hosts.toml", toml);
    let options = Options { hosts_dir: Some(dir.path("hosts")), ..options(&dir) };
    let image = pull("registry.invalid/app:v1", &options).unwrap();
    assert_eq!(image.name, "registry.invalid/app:v1");
    // A mirror that may not resolve tags is asked by digest alone.
    let toml = format!("[host.\"http://{}\"]\ncapabilities = [\"pull\"]\n", registry.host);
    dir.write("hosts/registry.invalid/hosts.toml", toml);
    pull(&format!("registry.invalid/app@{}", image.manifest_digest), &options).unwrap();
    let err = refusal("registry.invalid/app:v1", &options);
    assert!(err.contains("https://registry.invalid/") && err.contains("no such host"), "{err}");
}

/// A token server that signs what docker-registry verifies (distribution's JWT specification).
fn token_server(dir: &Folder) -> Server {
    let (key, work) = (dir.text("token.key"), dir.0.clone());
    let der = run("openssl", "openssl", &["x509", "-in", &dir.text("token.crt")]);
    let x5c: String = der.lines().filter(|line| !line.starts_with("-----")).collect();
    let count = AtomicU32::new(0);
    Server::start(move |asked: &Asked| {
        let basic = format!("Basic {}", STANDARD.encode("me:secret"));
        if asked.header("authorization") != basic {
            return Answer::new(401, r#"{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}"#);
        }
        let scope = asked.path.split("scope=").nth(1).unwrap_or_default();
        let scope = scope
            .split('&')
            .next()
            .unwrap()
            .replace("%3A", ":")
            .replace("%2F", "/")
            .replace("%2C", ",");
        let parts: Vec<&str> = scope.split(':').collect();
        let access = match parts.as_slice() {
            [kind, name, actions] => {
                let actions: Vec<&str> = actions.split(',').collect();
                serde_json::json!([{"type": kind, "name": name, "actions": actions}])
            }
            _ => serde_json::json!([]),
        };
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let text = format!(
            "{}.{}",
            part(serde_json::json!({"typ": "JWT", "alg": "RS256", "x5c": [x5c]})),
            part(serde_json::json!({"iss": "tester", "aud": "svc", "sub": "me", "exp": now + 60,
                "nbf": now - 10, "iat": now, "jti": "x", "access": access}))
        );
        let file = work.join(format!("jwt-{}", count.fetch_add(1, Ordering::Relaxed)));
        std::fs::File::create(&file).unwrap().write_all(text.as_bytes()).unwrap();
        let output =
            Command::new("openssl").args(["dgst", "-sha256", "-sign", &key]).arg(&file).output();
        let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(output.unwrap().stdout));
        Answer::new(200, serde_json::json!({ "token": token }).to_string())
    })
}

#[test]
fn bearer_tokens_of_a_real_registry() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 10);
    run(
        "openssl",
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=tokens",
            "-keyout",
            &dir.text("token.key"),
            "-out",
            &dir.text("token.crt"),
        ],
    );
    let tokens = token_server(&dir);
    let auth = format!(
        "auth:\n  token:\n    realm: http://{}/token\n    service: svc\n    issuer: tester\n    rootcertbundle: {}\n",
        tokens.host(),
        dir.text("token.crt")
    );
    let registry = DockerRegistry::start(&dir, "", &auth);
    let name = format!("{}/team/app:v1", registry.host);
    push(&layout, &name, &["--dest-creds", "me:secret"]);
    let before = tokens.asked("").len();
    let options = Options { creds: creds("me", "secret"), ..options(&dir) };
    pull(&name, &options).unwrap();
    let asked = tokens.asked("").split_off(before);
    assert_eq!(asked.len(), 1, "one token serves the whole pull");
    assert!(asked[0].path.contains("scope=repository%3Ateam%2Fapp%3Apull"), "{}", asked[0].path);
    assert!(asked[0].path.contains("service=svc"));
    let wrong = refusal(&name, &Options { creds: creds("me", "wrong-one"), ..options });
    assert!(wrong.contains("who?") && !wrong.contains("wrong-one"), "{wrong}");
}

/// One image of one layer, served by whatever a test wants.
#[derive(Clone)]
struct Served {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

impl Served {
    fn new() -> Served {
        let layer: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let config = br#"{"os":"linux","architecture":"amd64"}"#.to_vec();
        let descriptor = |media_type, bytes: &[u8]| serde_json::json!({"mediaType": media_type, "digest": Digest::of_sha256(bytes), "size": bytes.len()});
        let manifest = serde_json::json!({"schemaVersion": 2, "mediaType": media::OCI_MANIFEST,
            "config": descriptor(media::OCI_CONFIG, &config), "layers": [descriptor(media::OCI_LAYER, &layer)]});
        Served { layer, config, manifest: manifest.to_string().into_bytes() }
    }

    /// As a good registry answers, without ranges.
    fn answer(&self, asked: &Asked) -> Answer {
        let blob = |bytes: &Vec<u8>| asked.path.ends_with(Digest::of_sha256(bytes).as_str());
        if asked.path.contains("/manifests/") {
            Answer::new(200, self.manifest.clone()).with("Content-Type", media::OCI_MANIFEST)
        } else if blob(&self.layer) {
            Answer::new(200, self.layer.clone())
        } else if blob(&self.config) {
            Answer::new(200, self.config.clone())
        } else {
            Answer::new(404, "")
        }
    }

    fn is_layer(&self, asked: &Asked) -> bool {
        asked.path.ends_with(Digest::of_sha256(&self.layer).as_str())
    }

    /// The layer from the offset that the range asks for.
    fn ranged(&self, asked: &Asked) -> Answer {
        let start = asked.header("range").strip_prefix("bytes=").and_then(|r| r.strip_suffix('-'));
        let Some(start) = start.and_then(|start| start.parse::<usize>().ok()) else {
            return Answer::new(200, self.layer.clone());
        };
        let (last, size) = (self.layer.len() - 1, self.layer.len());
        Answer::new(206, &self.layer[start..])
            .with("Content-Range", format!("bytes {start}-{last}/{size}"))
    }
}

/// How long a server that does answer may take on a loaded machine.
const PATIENT: Duration = Duration::from_secs(10);

fn quick(stall: Duration) -> Timing {
    Timing {
        connect: Duration::from_secs(2),
        stall,
        backoff: Duration::from_millis(5),
        patience: Duration::from_secs(3),
        attempts: 3,
    }
}

/// Pulls `app` of a server, with waiting times for tests.
fn quick_pull(server: &Server, options: &Options) -> Result<()> {
    pull_within(PATIENT, server, options)
}

/// The same of a server that may be silent for no longer than `stall`.
fn pull_within(stall: Duration, server: &Server, options: &Options) -> Result<()> {
    let reference = Reference::parse(&format!("{}/app", server.host())).unwrap();
    let source = Registry::with_timing(reference, options, quick(stall))?;
    let image = source::resolve(&source, &options.platform)?;
    let layer = &image.layers[0];
    let bytes = read(&source, layer, 0).map_err(|err| Error::io("read", &err))?;
    assert!(layer.digest.matches(&bytes));
    Ok(())
}

#[test]
fn a_cut_connection_is_resumed() {
    let dir = Folder::new();
    let (served, cuts) = (Served::new(), AtomicU32::new(0));
    let server = Server::start(move |asked| match served.is_layer(asked) {
        true if cuts.fetch_add(1, Ordering::Relaxed) < 4 => {
            Answer { cut: Some(90_000), ..served.ranged(asked) }
        }
        true => served.ranged(asked),
        false => served.answer(asked),
    });
    quick_pull(&server, &options(&dir)).unwrap();
    let layer = Digest::of_sha256(&Served::new().layer);
    let ranges: Vec<_> =
        server.asked(layer.as_str()).iter().map(|a| a.header("range").to_owned()).collect();
    assert_eq!(ranges, ["", "bytes=90000-", "bytes=180000-", "bytes=270000-", "bytes=360000-"]);
}

#[test]
fn a_server_without_ranges_is_skipped_through() {
    let dir = Folder::new();
    let (served, cuts) = (Served::new(), AtomicU32::new(0));
    let server = Server::start(move |asked| {
        let cut = served.is_layer(asked) && cuts.fetch_add(1, Ordering::Relaxed) == 0;
        Answer { cut: cut.then_some(1000), ..served.answer(asked) }
    });
    quick_pull(&server, &options(&dir)).unwrap();
}

#[test]
fn a_server_that_answers_ranges_wrongly_is_asked_for_the_whole() {
    let dir = Folder::new();
    // The last one is a range that was not asked for: its bytes would be in the wrong place.
    let wrong: [(u16, &str); 3] = [(416, ""), (206, ""), (206, "bytes 0-5/6")];
    for (status, range) in wrong {
        let (served, wholes) = (Served::new(), AtomicU32::new(0));
        let server = Server::start(move |asked| {
            let layer = served.is_layer(asked);
            match layer && !asked.header("range").is_empty() {
                true if range.is_empty() => Answer::new(status, "abcdef"),
                true => Answer::new(status, "abcdef").with("Content-Range", range),
                false => {
                    let cut = layer && wholes.fetch_add(1, Ordering::Relaxed) == 0;
                    Answer { cut: cut.then_some(1000), ..served.answer(asked) }
                }
            }
        });
        quick_pull(&server, &options(&dir)).unwrap();
        let layer = Digest::of_sha256(&Served::new().layer);
        let ranges: Vec<_> =
            server.asked(layer.as_str()).iter().map(|a| a.header("range").to_owned()).collect();
        assert_eq!(ranges, ["", "bytes=1000-", ""]);
    }
    // Who speaks of ranges without being asked for one is not understood.
    let served = Served::new();
    let server = Server::start(move |asked| match served.is_layer(asked) {
        true => Answer::new(206, "abcdef").with("Content-Range", "bytes 1-6/7"),
        false => served.answer(asked),
    });
    let err = quick_pull(&server, &options(&dir)).unwrap_err().to_string();
    assert!(err.contains("range \"bytes 1-6/7\" instead of 0-"), "{err}");
}

/// What a pull by way of a mirror asks the mirror for, if the mirror answers so.
fn asked_of_mirror(stall: Duration, answer: fn() -> Answer) -> usize {
    let dir = Folder::new();
    let (mirror, served) = (Server::start(move |_| answer()), Served::new());
    let origin = Server::start(move |asked| served.answer(asked));
    let toml =
        format!("server = \"http://{}\"\n[host.\"http://{}\"]\n", origin.host(), mirror.host());
    dir.write("hosts/registry.invalid/hosts.toml", toml);
    let options = Options { hosts_dir: Some(dir.path("hosts")), ..options(&dir) };
    let reference = Reference::parse("registry.invalid/app").unwrap();
    let source = Registry::with_timing(reference, &options, quick(stall)).unwrap();
    let image = source::resolve(&source, &options.platform).unwrap();
    for part in [&image.config, &image.layers[0]] {
        assert!(part.digest.matches(&read(&source, part, 0).unwrap()));
    }
    let gone = Descriptor { digest: Digest::of_sha256(b"gone"), ..image.config };
    let err = read(&source, &gone, 0).unwrap_err().to_string();
    assert!(err.contains(&origin.host()) && err.contains("404"), "{err}");
    mirror.asked("").len()
}

#[test]
fn a_mirror_that_fails_is_asked_last_from_then_on() {
    // Three tries for the manifest, three when the registry lacks a blob.
    assert_eq!(asked_of_mirror(PATIENT, || Answer::new(503, "")), 6);
    let silent = || {
        std::thread::sleep(SILENCE);
        Answer::new(200, "")
    };
    assert_eq!(asked_of_mirror(IMPATIENT, silent), 6);
    // One that lacks this image may have another part of it.
    assert_eq!(asked_of_mirror(PATIENT, || Answer::new(404, "")), 5);
}

/// How long lade waits for a server that falls silent, and how long that one stays silent: far apart,
/// as a loaded machine makes more of the former.
const IMPATIENT: Duration = Duration::from_secs(2);
const SILENCE: Duration = Duration::from_secs(60);

#[test]
fn a_server_that_always_cuts_or_stalls_ends_in_an_error() {
    let dir = Folder::new();
    for stall in [Duration::ZERO, SILENCE] {
        let served = Served::new();
        let server = Server::start(move |asked| match served.is_layer(asked) {
            true => Answer { cut: Some(0), stall, ..served.ranged(asked) },
            false => served.answer(asked),
        });
        let start = Instant::now();
        let err = pull_within(IMPATIENT, &server, &options(&dir)).unwrap_err().to_string();
        assert!(err.contains("breaks off at 0 of 400000 bytes"), "{err}");
        assert!(start.elapsed() < SILENCE);
    }
    // Not even a header.
    let server = Server::start(|_| {
        std::thread::sleep(SILENCE);
        Answer::new(200, "")
    });
    let start = Instant::now();
    let plain = Options { plain_http: true, ..options(&dir) };
    let err = pull_within(IMPATIENT, &server, &plain).unwrap_err().to_string();
    assert!(err.contains("does not answer"), "{err}");
    assert!(start.elapsed() < SILENCE);
}

#[test]
fn too_many_requests_and_broken_gateways() {
    let dir = Folder::new();
    let (served, count) = (Served::new(), AtomicU32::new(0));
    let server = Server::start(move |asked| {
        match (asked.path.contains("/manifests/"), count.fetch_add(1, Ordering::Relaxed)) {
            (true, 0) => Answer::new(429, "").with("Retry-After", "1"),
            (true, 1) => Answer::new(503, ""),
            _ => served.answer(asked),
        }
    });
    let plain = Options { plain_http: true, ..options(&dir) };
    let start = Instant::now();
    quick_pull(&server, &plain).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(server.asked("/manifests/").len(), 3);

    let body = r#"{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}"#;
    let server = Server::start(move |_| Answer::new(429, body).with("Retry-After", "3600"));
    let err = quick_pull(&server, &plain).unwrap_err().to_string();
    assert!(
        err.contains("429") && err.contains("slow down") && err.contains("3600 seconds"),
        "{err}"
    );
    assert_eq!(server.asked("/manifests/").len(), 1);
    let server = Server::start(|_| Answer::new(500, ""));
    assert!(quick_pull(&server, &plain).unwrap_err().message().contains("500"));
    assert_eq!(server.asked("/manifests/").len(), 3);
}

/// A server that wants `secret` as basic authentication, and answers layers as `layer` says.
fn guarded(layer: impl Fn() -> Answer + Send + Sync + 'static) -> Server {
    let served = Served::new();
    Server::start(move |asked| {
        if asked.header("authorization").is_empty() {
            return Answer::new(401, "").with("WWW-Authenticate", "Basic realm=x");
        }
        if served.is_layer(asked) { layer() } else { served.answer(asked) }
    })
}

#[test]
fn redirects_carry_no_secret_away() {
    let dir = Folder::new();
    let served = Served::new();
    let store = Server::start(move |asked| served.ranged(asked));
    let to = format!("http://{}/store", store.host());
    let registry = guarded(move || Answer::new(307, "").with("Location", to.clone()));
    let options = Options { creds: creds("me", "secret"), ..options(&dir) };
    quick_pull(&registry, &options).unwrap();
    let asked = store.asked("/store");
    assert_eq!(asked.len(), 1);
    assert!(!asked[0].headers.contains_key("authorization"), "{:?}", asked[0]);
    assert!(!registry.asked("/blobs/").is_empty());

    // A store that asks who we are is not told, neither itself nor where it points to.
    let thief = Server::start(|_| Answer::new(200, r#"{"token":"t"}"#));
    let realm = format!("http://{}/token", thief.host());
    for challenge in ["Basic realm=x".to_owned(), format!("Bearer realm=\"{realm}\"")] {
        let challenge = move || Answer::new(401, "").with("WWW-Authenticate", challenge.clone());
        let store = Server::start(move |_| challenge());
        let to = format!("http://{}/store", store.host());
        let registry = guarded(move || Answer::new(307, "").with("Location", to.clone()));
        assert!(quick_pull(&registry, &options).unwrap_err().message().contains("401"));
        assert_eq!(store.asked("/store").len(), 1);
        assert!(!store.asked("")[0].headers.contains_key("authorization"));
        assert!(thief.asked("").is_empty());
    }
}

#[test]
fn redirects_end() {
    let dir = Folder::new();
    let options = Options { creds: creds("me", "secret"), ..options(&dir) };
    let registry = guarded(|| {
        let layer = Digest::of_sha256(&Served::new().layer);
        Answer::new(302, "").with("Location", format!("/v2/app/blobs/{layer}"))
    });
    let err = quick_pull(&registry, &options).unwrap_err().message();
    assert!(err.contains("more than 5 redirects"), "{err}");
    let layer = Digest::of_sha256(&Served::new().layer);
    let asked = registry.asked(layer.as_str());
    assert_eq!(asked.iter().filter(|a| a.headers.contains_key("authorization")).count(), 6);
    let registry = guarded(|| Answer::new(302, "").with("Location", "file:///etc/passwd"));
    assert!(quick_pull(&registry, &options).unwrap_err().message().contains("no URL to follow"));
}

#[test]
fn a_realm_elsewhere_gets_no_password() {
    let dir = Folder::new();
    let tokens = Server::start(|_| Answer::new(200, r#"{"token":"t"}"#));
    let realm = format!("http://localhost:{}/token", tokens.address.port());
    let served = Served::new();
    let registry = Server::start(move |asked| match asked.header("authorization") {
        "Bearer t" => served.answer(asked),
        _ => Answer::new(401, "").with("WWW-Authenticate", format!("Bearer realm=\"{realm}\"")),
    });
    let with = Options { creds: creds("me", "secret"), ..options(&dir) };
    let err = quick_pull(&registry, &with).unwrap_err().message();
    assert!(err.contains("credentials are not sent there"), "{err}");
    assert!(tokens.asked("/token").is_empty());
    quick_pull(&registry, &options(&dir)).unwrap();
    assert_eq!(tokens.asked("/token").len(), 1);
}

#[test]
fn identity_tokens_and_expiry() {
    let dir = Folder::new();
    let valid = Arc::new(Mutex::new(0u32));
    let (issue, check) = (valid.clone(), valid);
    let tokens = Server::start(move |_| {
        let mut valid = issue.lock().unwrap();
        *valid += 1;
        Answer::new(200, format!(r#"{{"access_token":"t{valid}"}}"#))
    });
    let realm = format!("http://{}/token", tokens.host());
    let served = Served::new();
    let registry = Server::start(move |asked| {
        // Each token is good until the layer is asked for with it for the first time.
        let current = *check.lock().unwrap();
        let expired = current < 2 && served.is_layer(asked);
        match !expired && asked.header("authorization") == format!("Bearer t{current}") {
            true => served.answer(asked),
            false => Answer::new(401, "")
                .with("WWW-Authenticate", format!("Bearer realm=\"{realm}\",service=\"s\"")),
        }
    });
    let file = format!(r#"{{"auths":{{"{}":{{"identitytoken":"refresh me"}}}}}}"#, registry.host());
    let options = Options { authfile: Some(dir.write("auth.json", file)), ..options(&dir) };
    quick_pull(&registry, &options).unwrap();
    let asked = tokens.asked("/token");
    assert_eq!(asked.len(), 2, "one token, and another when it had run out");
    assert_eq!(asked[0].method, "POST");
    for part in [
        "grant_type=refresh_token",
        "refresh_token=refresh%20me",
        "service=s",
        "scope=repository%3Aapp%3Apull",
    ] {
        assert!(asked[0].body.contains(part), "{}", asked[0].body);
    }
    assert!(!asked[0].path.contains("refresh"));
    let tokens = Server::start(|_| Answer::new(404, ""));
    let realm = format!("http://{}/token", tokens.host());
    let challenge = format!("Bearer realm=\"{realm}\"");
    let registry =
        Server::start(move |_| Answer::new(401, "").with("WWW-Authenticate", challenge.clone()));
    let file = format!(r#"{{"auths":{{"{}":{{"identitytoken":"refresh me"}}}}}}"#, registry.host());
    let options = Options { authfile: Some(dir.write("auth.json", file)), ..options };
    let err = quick_pull(&registry, &options).unwrap_err().message();
    assert!(err.ends_with(&format!("POST {realm}: 404 Not Found")), "{err}");
}

#[test]
fn hostile_manifests() {
    let dir = Folder::new();
    let plain = Options { plain_http: true, ..options(&dir) };
    let err = |answer: Answer| {
        let server = Server::start(move |_| answer.clone());
        quick_pull(&server, &plain).unwrap_err().message()
    };
    let manifest = Served::new().manifest;
    let good = Answer::new(200, manifest.clone());
    assert!(
        err(Answer::new(200, vec![b' '; (4 << 20) + 1])).contains("is larger than 4194304 bytes")
    );
    assert!(err(good.clone().with("Content-Type", media::OCI_INDEX)).contains("was served as"));
    let other = Digest::of_sha256(b"other");
    let lie = good.clone().with("Docker-Content-Digest", other.as_str());
    assert!(err(lie).contains("has other content"));
    assert!(
        err(Answer::new(200, "<html>").with("Content-Type", "text/html"))
            .contains("no JSON object")
    );
    let schema1 = "application/vnd.docker.distribution.manifest.v1+prettyjws";
    assert!(err(Answer::new(200, "{}").with("Content-Type", schema1)).contains("schema 1"));

    let server = Server::start(move |_| good.clone());
    let pinned = format!("{}/app@{other}", server.host());
    assert!(refusal(&pinned, &plain).contains("has other content"));
}

#[test]
fn a_blob_of_another_length_is_refused() {
    let dir = Folder::new();
    let served = Served::new();
    let server = Server::start(move |asked| match served.is_layer(asked) {
        true => Answer::new(200, vec![0; 500_000]),
        false => served.answer(asked),
    });
    let err = quick_pull(&server, &options(&dir)).unwrap_err().message();
    assert!(err.contains("500000 bytes instead of 400000"), "{err}");
}

#[test]
fn layouts_and_archives_of_other_tools() {
    let dir = Folder::new();
    let layout = make_layout(&dir, 200_000);
    let options = options(&dir);
    let image = pull(&format!("oci:{layout}:v1"), &options).unwrap();
    assert_eq!(image.name, "localhost/layout:v1");
    assert_eq!(pull(&format!("oci:{layout}"), &options).unwrap().manifest, image.manifest);
    let (oci, docker) = (dir.text("oci.tar"), dir.text("docker.tar"));
    skopeo(&["copy", &format!("oci:{layout}:v1"), &format!("oci-archive:{oci}:v1")]);
    skopeo(&["copy", &format!("oci:{layout}:v1"), &format!("docker-archive:{docker}:me/app:v1")]);
    let archived = pull(&format!("oci-archive:{oci}:v1"), &options).unwrap();
    assert_eq!(archived.layers, image.layers);
    for reference in
        [format!("docker-archive:{docker}"), format!("docker-archive:{docker}:me/app:v1")]
    {
        let saved = pull(&reference, &options).unwrap();
        assert_eq!(saved.name, "docker.io/me/app:v1");
        assert!(saved.layers.iter().all(|layer| layer.media_type == media::OCI_LAYER));
    }
    run("gzip", "gzip", &["-k", &docker]);
    let packed = pull(&format!("docker-archive:{docker}.gz"), &options).unwrap();
    assert_eq!(packed.name, "docker.io/me/app:v1");

    assert!(refusal(&format!("oci:{layout}:none"), &options).contains("one of v1"));
    assert!(refusal(&format!("docker-archive:{docker}:other"), &options).contains("me/app:v1"));
    assert!(refusal(&format!("docker-archive:{oci}:other"), &options).contains("one of v1"));
    assert!(refusal(&format!("oci-archive:{docker}"), &options).contains("oci-layout"));
    assert!(
        refusal(&format!("oci-archive:{}", dir.text("noise")), &options).contains("no tar file")
    );
    assert!(refusal(&format!("oci:{}", dir.text("absent")), &options).contains("no such file"));
}

/// What older Dockers and other tools write: links between layers, gzip layers.
#[test]
fn docker_archives_with_links_and_compressed_layers() {
    let dir = Folder::new();
    let layer = b"not really a tar, but it has a digest".to_vec();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&layer).unwrap();
    let id = Digest::of_sha256(&layer);
    let config = serde_json::json!({"os": "linux", "architecture": "amd64",
        "rootfs": {"type": "layers", "diff_ids": [id, id, id]}});
    let manifest = serde_json::json!([{"Config": "c.json", "RepoTags": null,
        "Layers": ["a/layer.tar", "b/layer.tar", "packed.tar.gz"]}]);
    let mut tar = tar::Builder::new(Vec::new());
    let gzip = gzip.finish().unwrap();
    let files = [
        ("a/layer.tar", layer.clone()),
        ("packed.tar.gz", gzip.clone()),
        ("c.json", config.to_string().into_bytes()),
        ("manifest.json", manifest.to_string().into_bytes()),
    ];
    for (name, content) in &files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_slice()).unwrap();
    }
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    tar.append_link(&mut link, "b/layer.tar", "../a/layer.tar").unwrap();
    let file = dir.write("saved.tar", tar.into_inner().unwrap());
    let image = pull(&format!("docker-archive:{}", file.display()), &options(&dir)).unwrap();
    let found: Vec<_> =
        image.layers.iter().map(|l| (l.digest.clone(), l.media_type.as_str())).collect();
    let packed = (Digest::of_sha256(&gzip), media::OCI_LAYER_GZIP);
    assert_eq!(found, [(id.clone(), media::OCI_LAYER), (id, media::OCI_LAYER), packed]);
    assert_eq!(image.name, "localhost/saved:latest");
}
