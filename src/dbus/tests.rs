use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use super::*;

#[test]
fn a_call_has_the_bytes_of_the_specification() {
    let ping = Method { destination: "a.b", path: "/", interface: "c.d", member: "E" };
    let arguments = [Value::text("x"), Value::Array("t".into(), vec![Value::Fixed(b't', 7)])];
    let bytes = encode(ping, &arguments, 1);
    #[rustfmt::skip]
    let expected = [
        b"l\x01\x00\x01", &24u32.to_le_bytes()[..], &1u32.to_le_bytes(), &73u32.to_le_bytes(),
        b"\x01\x01o\0\x01\0\0\0/\0\0\0\0\0\0\0",
        b"\x02\x01s\0\x03\0\0\0c.d\0\0\0\0\0",
        b"\x03\x01s\0\x01\0\0\0E\0\0\0\0\0\0\0",
        b"\x06\x01s\0\x03\0\0\0a.b\0\0\0\0\0",
        b"\x08\x01g\0\x03sat\0", &[0; 7], // the padding behind 73 bytes of fields
        b"\x01\0\0\0x\0\0\0", b"\x08\0\0\0\0\0\0\0", &7u64.to_le_bytes(),
    ].concat();
    assert_eq!(bytes, expected);
}

#[test]
fn values_have_signatures_and_words() {
    let pair = Value::Struct(vec![Value::text("/dev/null"), Value::text("rwm")]);
    let list = Value::Array("(ss)".into(), vec![pair]);
    assert_eq!(list.signature(), "a(ss)");
    assert_eq!(list.to_string(), "[[/dev/null, rwm]]");
    assert_eq!(Value::Fixed(b't', u64::MAX).to_string(), "infinity");
}

#[test]
fn text_is_parsed_as_glib_does() {
    let good = [
        ("true", "b", "true"),
        ("5", "i", "5"),
        ("-5", "i", "-5"),
        ("0x1f", "i", "31"),
        ("1.5", "d", "1.5"),
        ("uint64 123456789", "t", "123456789"),
        ("byte 0xff", "y", "255"),
        ("'inactive-or-failed'", "s", "inactive-or-failed"),
        (r#""it\'s""#, "s", "it's"),
        (r"'\u00e9\U0001F600\tx\\'", "s", "é😀\tx\\"),
        ("['a', 'b']", "as", "[a, b]"),
        ("[uint32 1, 2]", "au", "[1, 2]"),
        ("@as []", "as", "[]"),
        ("@au [1,2]", "au", "[1, 2]"),
        (" [('/dev/null', 'rw')] ", "a(ss)", "[[/dev/null, rw]]"),
        ("@a(st) [('/dev/vda', 5)]", "a(st)", "[[/dev/vda, 5]]"),
        ("@(a(yb)as(t)) ([(1, true)], [], (2))", "(a(yb)as(t))", "[[[1, true]], [], [2]]"),
        ("<true>", "v", "true"),
        ("objectpath '/a'", "o", "/a"),
    ];
    for (text, signature, words) in good {
        let value = parse(text).unwrap_or_else(|| panic!("{text}"));
        assert_eq!((value.signature().as_str(), value.to_string().as_str()), (signature, words));
    }
    let bad = [
        "",
        "[]",
        "yes",
        "'a",
        "['a', 1]",
        "[1 2]",
        "uint32 -1",
        "byte 256",
        "2147483648",
        "uint64 'x'",
        "true false",
        "@",
        "@s 5",
        "@(st) ('x')",
        "@(st) ('x', 1, 2)",
        "@(s ('x')",
        "(1",
        "((((((((((1))))))))))",
        "5x",
        "'a\0'",
        r"'\u0000'",
        r"'\u00e'",
        r"'\u+0e9'",
        r"'\ud800'",
    ];
    for text in bad {
        assert_eq!(parse(text), None, "{text}");
    }
}

/// Answers one call on a socket with `answer`, after the authentication.
fn serve(answer: Vec<u8>) -> Result<Message, Failure> {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("tare-dbus-{}-{count}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let expect = |client: &mut UnixStream, words: &[u8]| {
            let mut buffer = vec![0; words.len()];
            client.read_exact(&mut buffer).unwrap();
            assert_eq!(buffer, words);
        };
        expect(&mut client, b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n");
        client.write_all(b"DATA\r\nOK 1234deadbeef\r\n").unwrap();
        let mut call = [0; 4096];
        let _ = client.read(&mut call).unwrap();
        // The other side may have seen enough by then.
        let _ = client.write_all(&answer);
    });
    let ping = Method { destination: "a", path: "/", interface: "c.d", member: "E" };
    let result = Connection::open(&path).map_err(Failure::Io).and_then(|mut c| c.call(ping, &[]));
    server.join().unwrap();
    std::fs::remove_file(path).unwrap();
    result
}

/// An answer of this type with these fields, to the first call.
fn answer(kind: u8, fields: Vec<Value>, body: &[Value]) -> Vec<u8> {
    let mut encoded = Vec::new();
    body.iter().for_each(|value| value.encode(&mut encoded));
    let mut message = vec![b'l', kind, 0, 1];
    message.extend((encoded.len() as u32).to_le_bytes());
    message.extend(9u32.to_le_bytes());
    let reply = field(REPLY_SERIAL, Value::Fixed(b'u', 1));
    Value::Array("(yv)".into(), [vec![reply], fields].concat()).encode(&mut message);
    message.resize(message.len().next_multiple_of(8), 0);
    [message, encoded].concat()
}

#[test]
fn answers_and_refusals() {
    let reply = serve(answer(RETURN, Vec::new(), &[Value::Text(b'o', "/job/7".into())])).unwrap();
    assert_eq!(reply.body().text(), Some("/job/7"));
    let name = field(ERROR_NAME, Value::text("org.freedesktop.systemd1.NoSuchUnit"));
    let refusal = serve(answer(ERROR, vec![name], &[Value::text("Unit x not loaded.")]));
    match refusal.unwrap_err() {
        Failure::Refused(name, words) => {
            assert!(name.ends_with("NoSuchUnit") && words == "Unit x not loaded.");
        }
        other => panic!("{other:?}"),
    }
}

/// Every cut of an answer, and every changed byte of it, fails or is read; nothing panics.
#[test]
fn damaged_answers_are_survived() {
    let name = field(ERROR_NAME, Value::text("a.b"));
    let good = answer(ERROR, vec![name, field(SIGNATURE, Value::Text(b'g', "s".into()))], &[]);
    for cut in (0..good.len()).step_by(7) {
        assert!(serve(good[..cut].to_vec()).is_err(), "{cut}");
    }
    for (at, byte) in (0..good.len()).flat_map(|at| [(at, 0xff), (at, 0), (at, 0x7f)]) {
        let mut bad = good.clone();
        bad[at] = byte;
        let mut start = [0; FIXED];
        start.copy_from_slice(&bad[..FIXED]);
        let _ = (lengths(&start), header(&start, &bad[FIXED..]));
    }
    let mut huge = good;
    huge[4..8].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(serve(huge), Err(Failure::Io(_))));
}
