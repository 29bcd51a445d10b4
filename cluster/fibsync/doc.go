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
//	             stream of card 2   stream of card 1
//
// The publisher retains every route once, whatever the number of cards. A
// route that changes moves to the tail; a deleted one stays in the list as a
// tombstone until all streams have passed it. A stream is a place in the list:
// a new card starts at the head, so snapshot and increments are the same; a
// card that is slow finds a route that changed a hundred times once. Nothing
// is queued for a card but a window of batches.
//
// # Order
//
//   - A stream sends changed groups before any route.
//   - A group is deleted once the stream has come to the tail: then no route
//     on the card leads to it.
//   - A GroupID that is used again while a card may still hold its former
//     group travels under another number (from 1<<31).
//   - Sweep is sent once the stream has come to the tail and Converged was called.
//   - A stream that is refused, or holds too many tombstones back, starts
//     again in a new epoch.
package fibsync
