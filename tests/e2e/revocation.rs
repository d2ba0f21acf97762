//! Whoever is revoked gets in nowhere any more, and is cut where it is in.
