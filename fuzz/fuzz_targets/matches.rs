#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| arcp_tests::fuzz::run("matches", data));
