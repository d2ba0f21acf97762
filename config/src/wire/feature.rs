//! What one side of a stream can do beyond what every release of the protocol can. Each says it in its first message, and
//! nothing that needs a feature is sent to a side which doesn't have it.

/// It says what it [holds](super::Holdings), and takes what differs from that in place of everything.
pub const RESUME: &str = "resume";
/// It takes acknowledgements that [leave out](super::Ack::delta) what is as it was said last.
pub const ACK_DELTAS: &str = "ackDeltas";

/// It takes [patches](super::Down::Patch) of values.
pub const PATCHES: &str = "patches";

/// It answers questions, which only some processes do.
pub const ASK: &str = "ask";

/// All that every process of this release has.
pub fn all() -> Vec<String> {
    [RESUME, ACK_DELTAS, PATCHES].map(str::to_owned).into()
}

/// Whether a side has the feature.
pub fn has(features: &[String], feature: &str) -> bool {
    features.iter().any(|said| said == feature)
}
