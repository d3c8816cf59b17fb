//! Entry of the runtime.
#![no_main]

tare::entry!(tare::cmd::main);
