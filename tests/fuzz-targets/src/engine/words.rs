//! What peers, trackers and nodes say: templates around the fuzzer's bytes, so that it need not
//! guess lengths, hashes and transaction ids.

use arbitrary::Unstructured;
use dunlin_core::BLOCK_LEN;
use dunlin_core::wire::krpc;

use crate::payload::torrents;

/// Bytes of a peer.
pub(super) fn said(what: u8, n: u8, u: &mut Unstructured<'_>) -> arbitrary::Result<Vec<u8>> {
    let kind: u8 = u.arbitrary()?;
    let info = &torrents()[usize::from(kind >> 4) % 3];
    Ok(match kind % 10 {
        0 => {
            let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\x10\0\x05".to_vec();
            hello.extend_from_slice(&info.info_hash().0);
            hello.extend_from_slice(b"-XX0001-abcdefghijk");
            hello.push(n);
            hello
        }
        // Any message of up to 31 bytes.
        1 | 2 => {
            let len = usize::from(u.arbitrary::<u8>()? % 32).min(u.len());
            message(what / 20 + (kind & 0x10), u.bytes(len)?)
        }
        // `have all`, unchoke and interested: a seed that serves.
        3 => [message(14, &[]), message(1, &[]), message(2, &[])].concat(),
        // A block of zeros, or of ones.
        4 | 5 => {
            let at: u8 = u.arbitrary()?;
            let (piece, block) = (u32::from(at % 8), u32::from(at >> 3 & 1));
            let whole = info
                .block(piece, block)
                .map_or(BLOCK_LEN, |b| b.len as usize);
            let mut body = [
                piece.to_be_bytes(),
                (block * BLOCK_LEN as u32).to_be_bytes(),
            ]
            .concat();
            body.resize(8 + whole, u8::from(at & 0x80 != 0));
            message(7, &body)
        }
        6 => {
            let at: u8 = u.arbitrary()?;
            let words = [
                u32::from(at % 8),
                u32::from(at >> 3 & 1) * BLOCK_LEN as u32,
                BLOCK_LEN as u32,
            ];
            let body = words.map(u32::to_be_bytes).concat();
            message([6, 8, 16][usize::from(at >> 4) % 3], &body)
        }
        // Extension handshake with the right size of the metadata.
        7 => {
            let size = info.raw().len();
            let text =
                format!("\0d1:md11:ut_metadatai1e6:ut_pexi2ee13:metadata_sizei{size}e4:reqqi9ee");
            message(20, text.as_bytes())
        }
        // The metadata itself, or any other extension message.
        8 => {
            let size = info.raw().len();
            let head = format!("d8:msg_typei1e5:piecei0e10:total_sizei{size}ee");
            message(20, &[&[1 + n % 4], head.as_bytes(), info.raw()].concat())
        }
        _ => {
            let len = usize::from(u.arbitrary::<u8>()?).min(u.len());
            let bytes = u.bytes(len)?;
            if what & 0x80 == 0 {
                message(20, bytes)
            } else {
                bytes.to_vec()
            }
        }
    })
}

fn message(id: u8, body: &[u8]) -> Vec<u8> {
    let mut out = (body.len() as u32 + 1).to_be_bytes().to_vec();
    out.push(id);
    out.extend_from_slice(body);
    out
}

/// A reply to the query `sent`, with `body` for its values.
pub(super) fn krpc_reply(sent: &[u8], body: &[u8]) -> Vec<u8> {
    let tid = krpc::parse(sent).map_or(&[1][..], |m| m.tid);
    let head = format!("d1:t{}:", tid.len());
    [
        head.as_bytes(),
        tid,
        b"1:y1:r1:rd2:id20:abcdefghij0123456789",
        body,
        b"ee",
    ]
    .concat()
}

/// A query with `body`, and the id of its sender.
pub(super) fn krpc_query(body: &[u8]) -> Vec<u8> {
    [b"d1:t2:aa1:y1:q1:ad2:id20:abcdefghij0123456789", body, b"e"].concat()
}

/// A UDP tracker's answer to `sent`, whose action is the first byte of `body`.
pub(super) fn tracker_reply(sent: &[u8], body: &[u8]) -> Vec<u8> {
    let (action, rest) = body.split_first().unwrap_or((&0, &[]));
    let transaction = sent.get(12..16).unwrap_or(&[0; 4]);
    [&[0, 0, 0, action % 5], transaction, rest].concat()
}
