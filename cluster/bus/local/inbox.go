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

// inbox is the receive queue of a socket.
type inbox struct {
	mu     sync.Mutex
	ready  sync.Cond
	room   sync.Cond
	queue  []item
	bytes  int
	closed bool
}

func newInbox() *inbox {
	b := &inbox{}
	b.ready.L, b.room.L = &b.mu, &b.mu
	return b
}

func (b *inbox) put(it item) {
	b.queue = append(b.queue, it)
	b.bytes += len(it.Data) + itemCost
	b.ready.Signal()
}

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
func (b *inbox) returned(d bus.Datagram) { b.push(item{Datagram: d}, bus.Critical) }

// wait queues an item when there is room.
func (b *inbox) wait(it item) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for !b.closed && b.bytes >= inboxBytes {
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
	}
}

// pop waits for the next item; false when the inbox is closed.
func (b *inbox) pop() (item, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.closed {
		b.ready.Wait()
	}
	if b.closed {
		return item{}, false
	}
	it := b.queue[0]
	b.queue[0] = item{}
	if b.queue = b.queue[1:]; len(b.queue) == 0 {
		b.queue = nil
	}
	b.bytes -= len(it.Data) + itemCost
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
	rest := b.queue
	b.queue, b.closed = nil, true
	b.ready.Broadcast()
	b.room.Broadcast()
	return rest
}
