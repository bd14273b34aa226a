package session

import "testing"

// Whoever waits goes on, whether that began before or after it happened, and it may happen again.
func TestAMomentIsPassedForWhoWaitedAndForWhoComesLater(t *testing.T) {
	var m Moment
	before := m.Passed()
	select {
	case <-before:
		t.Fatal("it has passed before it happened")
	default:
	}
	m.Happen()
	m.Happen()
	<-before
	<-m.Passed()
	var alone Moment
	alone.Happen()
	<-alone.Passed()
}
