// Package fibsync carries the forwarding tables from the routing engine to the
// line cards: Publisher on the one side, Subscriber on the other. Both are
// pure: they are driven from their process's event loop, and know no clock,
// goroutine or socket.
//
// # One table, one list
//
//	Changes ──► routes, in one list in order of their last change
//	              head ○──○──○──●──○──○──○──○ tail
//	                      ▲           ▲
//	                  cohort of    cohort of
//	                  card 2       cards 1, 3, 4
//
// The publisher retains every route once, whatever the number of cards. A
// route that changes moves to the tail; a deleted one stays in the list as a
// tombstone until all have passed it. Cards that have been sent the same are a
// cohort, which is a place in the list: snapshot and increments are the same,
// and a cohort that is slow finds a route that changed a hundred times once.
//
// # One encoding for all cards
//
// A batch is encoded once for a cohort; its cards' sessions share the bytes.
// The epoch and sequence of each card go before them, so that acknowledgement,
// window and replay are the card's own.
//
//   - Batches are built at the pace of the fastest card. A slower one has them
//     queued, up to maxLag (shared, too); beyond, it goes on alone.
//   - A card that attaches soon after others begin has their first batches
//     queued and belongs to them; later, it begins alone at the head.
//   - Cohorts that have come to the tail become one.
//
// # One multicast for all cards
//
// On a transport that multicasts (Caster), the changes of a batch go once to all
// of its cards that are in step; each card's session carries a reference: the
// header, and the digest of the changes.
//
//   - A card applies changes only whose digest its session has named, in the
//     session's order. What was forged has another digest.
//   - Changes that have not come CastDeadline after they were named are asked for
//     (Fetch) and come in the session. A card that asks often is sent
//     whole batches for a while.
//   - A card holds HeldBatches that were not named yet at most; a publisher keeps what it
//     has multicast until the window's cards have acknowledged it.
//   - One card alone, and short batches, go by unicast.
//
// # Order
//
//   - A cohort sends changed groups before any route.
//   - A group is deleted once the cohort has come to the tail: then no route
//     on the card leads to it.
//   - A GroupID that is used again while a card may still hold its former
//     group travels under another number (from 1<<31).
//   - Sweep is sent once the cohort has come to the tail and Converged was called.
//   - A card that refuses, or a cohort that holds too many tombstones back,
//     starts again in a new epoch.
package fibsync
