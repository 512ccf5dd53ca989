#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| task_tracker::fuzzing::lines(input));
