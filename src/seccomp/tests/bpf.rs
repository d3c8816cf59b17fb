//! The part of classic BPF that seccomp filters use, run in the test.

use libc::sock_filter;

/// A `struct seccomp_data`, as 32-bit words in the order of memory.
pub(super) struct Call {
    words: [u32; 16],
}

impl Call {
    /// `low_half` is the offset of an argument's lower 32 bits.
    pub(super) fn new(token: u32, number: u32, args: [u64; 6], low_half: u32) -> Self {
        let mut words = [0; 16];
        (words[0], words[1]) = (number, token);
        for (i, arg) in args.into_iter().enumerate() {
            let low = low_half as usize / 4;
            words[4 + 2 * i + low] = arg as u32;
            words[4 + 2 * i + 1 - low] = (arg >> 32) as u32;
        }
        Call { words }
    }
}

/// Runs a program; a bad one panics. Returns what it returns and the instructions it took.
pub(super) fn run(program: &[sock_filter], call: &Call) -> (u32, usize) {
    let (mut at, mut acc) = (0, 0);
    for steps in 1.. {
        let one = program[at];
        at += 1;
        let holds = match one.code {
            0x20 => {
                acc = call.words[one.k as usize / 4];
                continue;
            }
            0x54 => {
                acc &= one.k;
                continue;
            }
            0x05 => {
                at += one.k as usize;
                continue;
            }
            0x06 => return (one.k, steps),
            0x15 => acc == one.k,
            0x25 => acc > one.k,
            0x35 => acc >= one.k,
            0x45 => acc & one.k != 0,
            code => panic!("instruction {code:#x}"),
        };
        at += usize::from(if holds { one.jt } else { one.jf });
    }
    unreachable!()
}
