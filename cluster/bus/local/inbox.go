package local

import (
	"sync"

	"godwit/cluster/bus"
)

const (
	// inboxBytes is how much waits for Recv at importance Low, with the cost of
	// each message; every level above has twice the room of the one below.
	inboxBytes = 2 << 20
	// itemCost is what a message takes besides its data.
	itemCost = 256
)

// item waits in an inbox.
type item struct {
	bus.Datagram
	news  bus.GroupNews // of a group
	flags byte
	back  *pipe // where it came from
}

// inbox is the receive queue of a socket. Who puts messages of one read in
// wakes Recv once, by wake.
type inbox struct {
	mu     sync.Mutex
	ready  sync.Cond
	room   sync.Cond
	queue  []item // what waits is from head on
	head   int
	bytes  int
	closed bool
}

// idleItems is how long a queue is kept when it is empty.
const idleItems = 256

func newInbox() *inbox {
	b := &inbox{}
	b.ready.L, b.room.L = &b.mu, &b.mu
	return b
}

func (b *inbox) put(it item) {
	b.queue = append(b.queue, it)
	b.bytes += len(it.Data) + itemCost
}

// wake lets Recv have what was put in.
func (b *inbox) wake() { b.ready.Signal() }

// push queues an item if there is room for its importance.
func (b *inbox) push(it item, i bus.Importance) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed || b.bytes >= inboxBytes<<i {
		return false
	}
	b.put(it)
	return true
}

// returned queues a message that came back, at the highest importance; if even
// that is exceeded it is lost, as nothing returns twice.
func (b *inbox) returned(d bus.Datagram) {
	b.push(item{Datagram: d}, bus.Critical)
	b.wake()
}

// wait queues an item when there is room.
func (b *inbox) wait(it item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && b.bytes >= inboxBytes {
		b.ready.Signal()
		b.room.Wait()
	}
	if !b.closed {
		b.put(it)
	}
}

// tell queues news whatever waits: they are bounded by the members there are.
func (b *inbox) tell(it item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.put(it)
		b.ready.Signal()
	}
}

// pop waits for the next item; false when the inbox is closed.
func (b *inbox) pop() (item, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.head == len(b.queue) && !b.closed {
		b.ready.Wait()
	}
	if b.closed {
		return item{}, false
	}
	it := b.queue[b.head]
	b.queue[b.head] = item{}
	b.head++
	b.bytes -= len(it.Data) + itemCost
	switch {
	case b.head == len(b.queue) && cap(b.queue) <= idleItems:
		b.queue, b.head = b.queue[:0], 0
	case b.head == len(b.queue):
		b.queue, b.head = nil, 0
	case b.head >= idleItems && b.head > len(b.queue)/2: // so that append need not grow it
		n := copy(b.queue, b.queue[b.head:])
		clear(b.queue[n:])
		b.queue, b.head = b.queue[:n], 0
	}
	b.room.Broadcast()
	return it, true
}

func (b *inbox) isClosed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// close ends the inbox and returns what nobody has read.
func (b *inbox) close() []item {
	b.mu.Lock()
	defer b.mu.Unlock()
	rest := b.queue[b.head:]
	b.queue, b.head, b.closed = nil, 0, true
	b.ready.Broadcast()
	b.room.Broadcast()
	return rest
}
