//! Downloads a magnet link into the current folder.

use dunlin_tokio::{Add, Session, SessionConfig};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let link = std::env::args().nth(1).ok_or("usage: magnet LINK")?;
    let session = Session::new(SessionConfig::default()).await?;
    let torrent = session.add(Add::magnet(&link)?).await?;
    torrent.wait_complete().await?;
    session.shutdown().await;
    Ok(())
}
