//! libFuzzer on [`twinpost_fuzz::board`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twinpost_fuzz::board(data));
