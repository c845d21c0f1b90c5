//! Servers that are none, or mean harm, or somebody between them and us.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;

use crate::world::World;

/// Says this to everybody who connects, and hangs up when he does.
fn server(say: impl Fn(&mut TcpStream) -> std::io::Result<()> + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            // The startup packet.
            let mut length = [0; 4];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut rest = vec![0; (u32::from_be_bytes(length) as usize).clamp(4, 10_000) - 4];
            let _ = stream.read_exact(&mut rest);
            let _ = say(&mut stream);
        }
    });
    port
}

fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &u32::try_from(body.len() + 4).unwrap().to_be_bytes(), body].concat()
}

fn check(port: u16) -> crate::world::Gave {
    let url = format!("postgresql://u:s3cret-canary@127.0.0.1:{port}/d?sslmode=disable&connect_timeout=20");
    let gave = World::of(&url).run(&["backup", "--no-upload"]);
    assert!(gave.code.is_some_and(|code| code > 0 && code < 128), "{gave:?}");
    assert!(!gave.stderr.contains("s3cret-canary"), "{gave:?}");
    gave
}

#[test]
fn a_server_cannot_make_us_hold_or_hash_more_than_we_want() {
    // A gigabyte before anybody knows who is there.
    let gave = check(server(|stream| stream.write_all(&[b'R', 0x40, 0, 0, 0])));
    assert!(gave.stderr.contains("impossible length"), "{gave:?}");
    // Two thousand million rounds of hashing for a password.
    let gave = check(server(|stream| {
        let offer = [&10_u32.to_be_bytes()[..], b"SCRAM-SHA-256\0\0"].concat();
        stream.write_all(&message(b'R', &offer))?;
        let mut first = [0; 200];
        let count = stream.read(&mut first)?;
        let text = String::from_utf8_lossy(&first[..count]).into_owned();
        let nonce = text.split("r=").nth(1).unwrap_or_default().to_owned();
        let challenge = format!("r={nonce}x,s=c2FsdHNhbHRzYWx0c2FsdA==,i=2147483647");
        stream.write_all(&message(b'R', &[&11_u32.to_be_bytes()[..], challenge.as_bytes()].concat()))?;
        let _ = stream.read(&mut first);
        Ok(())
    }));
    assert!(gave.stderr.contains("more work on the password"), "{gave:?}");
    // Notices and parameters without end: half a gigabyte of them.
    let gave = check(server(|stream| {
        stream.write_all(&message(b'R', &0_u32.to_be_bytes()))?;
        let notice = [b"SNOTICE\0C00000\0M", &vec![b'x'; 60_000][..], b"\0\0"].concat();
        for number in 0..4_000 {
            stream.write_all(&message(b'N', &notice))?;
            let parameter = [format!("p{number}\0").as_bytes(), &vec![b'y'; 60_000], b"\0"].concat();
            stream.write_all(&message(b'S', &parameter))?;
        }
        Ok(())
    }));
    assert!(gave.peak_kib < 150 << 10, "{} KiB", gave.peak_kib);
}

#[test]
fn no_password_goes_to_a_server_that_must_prove_itself_and_cannot() {
    // It asks for the password in clear, as somebody in between would.
    let (said, heard) = std::sync::mpsc::channel();
    let port = server(move |stream| {
        stream.write_all(&message(b'R', &3_u32.to_be_bytes()))?;
        let mut answer = [0; 200];
        let count = stream.read(&mut answer)?;
        let _ = said.send(answer[..count].to_vec());
        Ok(())
    });
    let refuse = |parameters: &str| {
        let url = format!("postgresql://u:s3cret-canary@127.0.0.1:{port}/d?connect_timeout=20&{parameters}");
        let gave = World::of(&url).run(&["backup", "--no-upload"]);
        assert!(gave.code.is_some_and(|code| code > 0 && code < 128), "{gave:?}");
        while let Ok(answer) = heard.try_recv() {
            assert!(!String::from_utf8_lossy(&answer).contains("canary"), "{parameters}: it got the password");
        }
    };
    for parameters in [
        "sslmode=require",
        "sslmode=verify-full",
        "sslmode=disable&require_auth=scram-sha-256",
        "sslmode=disable&channel_binding=require",
    ] {
        refuse(parameters);
    }
}
