package fdstore

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxText bounds the reason in an answer, bytes.
const maxText = 512

// ErrNone is Open's answer in a process that has no store: a person started it.
var ErrNone = errors.New("nobody keeps descriptors for this process")

// Client is a module's end.
type Client struct {
	mu  sync.Mutex
	fd  int
	err error // after which nobody knows which answer is whose
}

// Open finds the socket that the supervisor passed.
func Open() (*Client, error) {
	number := os.Getenv(Variable)
	if number == "" {
		return nil, ErrNone
	}
	fd, err := strconv.Atoi(number)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%q: want the number of a descriptor", Variable, number)
	}
	return NewClient(fd)
}

// NewClient takes the socket, which is the client's from now on.
func NewClient(fd int) (*Client, error) {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, fmt.Errorf("descriptor %d of the store: %w", fd, err)
	}
	if kind != unix.SOCK_SEQPACKET {
		return nil, fmt.Errorf("descriptor %d of the store is no socket for messages", fd)
	}
	unix.CloseOnExec(fd)
	t := unix.NsecToTimeval(int64(Timeout))
	if err := errors.Join(unix.SetNonblock(fd, false),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &t),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &t)); err != nil {
		return nil, fmt.Errorf("descriptor %d of the store: %w", fd, err)
	}
	return &Client{fd: fd}, nil
}

// Keep gives the store a copy of the descriptor; one of the same name is let go.
func (c *Client) Keep(name string, fd int) error {
	_, err := c.ask(opKeep, name, unix.UnixRights(fd))
	return err
}

// Drop makes the store let go of a descriptor. One that it has not is no error.
func (c *Client) Drop(name string) error {
	_, err := c.ask(opDrop, name, nil)
	return err
}

// List returns copies of all that is kept; they are the caller's.
func (c *Client) List() (map[string]int, error) { return c.ask(opList, "", nil) }

func (c *Client) ask(op byte, name string, oob []byte) (kept map[string]int, err error) {
	if op != opList && (name == "" || len(name) > MaxName) {
		return nil, fmt.Errorf("keep descriptor: name of %d bytes, want 1 to %d", len(name), MaxName)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return nil, c.err
	}
	kept = make(map[string]int)
	if err := retry(func() error {
		return unix.Sendmsg(c.fd, append([]byte{op}, name...), oob, nil, unix.MSG_NOSIGNAL)
	}); err != nil {
		c.err = fmt.Errorf("ask store for descriptors: %w", err)
		return nil, c.err
	}
	for {
		done, err := c.answer(kept)
		if done && err == nil {
			return kept, nil
		}
		if err != nil {
			for _, fd := range kept {
				_ = unix.Close(fd)
			}
			return nil, err
		}
	}
}

// answer reads one message of an answer.
func (c *Client) answer(kept map[string]int) (done bool, err error) {
	buf, oob := make([]byte, 1+maxText), make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	if err := retry(func() (err error) {
		n, oobn, _, _, err = unix.Recvmsg(c.fd, buf, oob, unix.MSG_CMSG_CLOEXEC)
		return err
	}); err != nil {
		c.err = fmt.Errorf("answer of the store for descriptors: %w", err)
		return true, c.err
	}
	fds, err := descriptors(oob[:oobn])
	switch {
	case err == nil && n == 1 && buf[0] == answerDone && len(fds) == 0:
		return true, nil
	case err == nil && n > 1 && buf[0] == answerError && len(fds) == 0:
		return true, errors.New("store for descriptors: " + string(buf[1:n]))
	case err == nil && n > 1 && buf[0] == answerEntry && len(fds) == 1:
		kept[string(buf[1:n])] = fds[0]
		return false, nil
	}
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
	c.err = errors.Join(errors.New("store for descriptors: malformed answer"), err)
	return true, c.err
}

// retry goes on behind signals.
func retry(f func() error) error {
	end := time.Now().Add(Timeout)
	for {
		if err := f(); !errors.Is(err, unix.EINTR) || time.Now().After(end) {
			return err
		}
	}
}

// Close closes the socket; what is kept stays.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = errors.New("store for descriptors: closed")
	}
	fd := c.fd
	c.fd = -1
	if fd < 0 {
		return nil
	}
	return unix.Close(fd)
}
