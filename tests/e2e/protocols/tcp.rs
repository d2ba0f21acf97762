//! Bytes that nobody reads on their way.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::workload;
use crate::support::demo::{Demo, TCP};

/// Connections are spread over all clusters, so some of them pass a tunnel.
#[tokio::test]
async fn bytes_come_back_and_so_does_their_end() {
    let demo = Demo::shared().await;
    for _ in 0..9 {
        let (mut reader, mut writer) = workload(demo, TCP).await.into_split();
        let sent: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
        let up = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut back = Vec::new();
        let (echoed, ()) = tokio::join!(reader.read_to_end(&mut back), up);
        assert!(echoed.unwrap() == sent.len() && back == sent);
    }
}
