//! A server that says anything, or who has put himself between it and us.

/// A session ends, well or with an error, whatever the server says; pieces of a COPY add up to what came.
pub(super) fn session(input: &[u8]) {
    if let Ok(bytes) = pgkeep_dump::fuzzing::hostile_server(input, "pencil") {
        assert!(bytes <= input.len() as u64, "nothing is made up");
    }
}

/// Pages of large objects become objects, in bounded pieces, or are refused.
pub(super) fn large_objects(input: &[u8]) {
    let Some((&cut, copies)) = input.split_first() else { return };
    let (one, two) = copies.split_at(usize::from(cut).min(copies.len()));
    let oids = [1, 7, 16_400, 3_000_000_000];
    for copies in [&[copies][..], &[one, two]] {
        let _ = pgkeep_dump::fuzzing::large_object_pages(copies, &oids, 1 << 20);
    }
}

/// A certificate is read or not.
pub(super) fn certificate(input: &[u8]) {
    pgkeep_dump::fuzzing::certificate(input);
}
