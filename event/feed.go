package event

// feedWindow is how many values of a feed may wait on the loop: enough to keep
// it busy, few enough that the sender feels a loop that is behind.
const feedWindow = 256

// Feed makes anything that can be waited for a source: messages of the bus,
// events of a topology subscription, a channel. receive blocks for the next
// value; its error ends the source. f runs as an event of h for each value, in
// order, then ended once with the error (may be nil, and does not run after
// Close). stop makes receive return. At most 256 values wait: then the feed
// receives no more until the loop has caught up.
func Feed[T any](h *Handler, name string, receive func() (T, error), stop func(), f func(T), ended func(error)) *Source {
	l := h.loop
	window := make(chan struct{}, feedWindow)
	return l.newSource("feed", name, h, stop, func(s *Source) {
		for {
			v, err := receive()
			if err != nil {
				if ended != nil {
					_ = s.post(func() { ended(err) }, true)
				}
				return
			}
			select {
			case window <- struct{}{}:
			case <-s.closed:
				return
			}
			if s.post(func() { <-window; f(v) }, true) != nil {
				return
			}
		}
	})
}
