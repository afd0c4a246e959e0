//! libFuzzer on [`twinpost_fuzz::queue`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| twinpost_fuzz::queue(data));
