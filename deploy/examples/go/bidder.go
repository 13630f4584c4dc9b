// A bidder that uses the decisions of Aimpoint.
//
//	bidder lookup USER           ask `aimpoint serve` for a user's decision
//	bidder enrich <request.json  have a bid request enriched by `aimpoint serve`
//	bidder follow USER           keep all decisions in memory, from the topic, and say what changes for a user
//
// USER is the key of a record: the id of a person, or device:ID, app:ID. The environment says where everything is:
// SERVE (http://127.0.0.1:9470), SERVE_TOKEN, TIMEOUT_MS (10), KAFKA (localhost:9092), TOPIC (decisions).
//
// If there is no answer in time, the bidder goes on without a decision: it never waits for one.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Decision is what a bidder needs of one. Integers of 64 bits are strings in the JSON of Protobuf.
type Decision struct {
	ExpiresAt int64                 `json:"expires_at,string"` // In microseconds since 1970.
	Segments  []struct{ ID string } `json:"segments"`
	Campaigns []struct {
		ID, Currency string
		Bid          int64 `json:"bid_micros,string"` // In millionths, per thousand impressions.
		Shaded       int64 `json:"shaded_micros,string"`
	} `json:"campaigns"`
}

func inWords(user string, decision *Decision) string {
	if decision == nil {
		return user + ": nothing is known"
	}
	if decision.ExpiresAt <= time.Now().UnixMicro() {
		return user + ": expired"
	}
	var segments []string
	for _, segment := range decision.Segments {
		segments = append(segments, segment.ID)
	}
	bid := "no bid"
	if len(decision.Campaigns) > 0 { // Best first.
		offer := decision.Campaigns[0]
		bid = fmt.Sprintf("bid %.2f %s for %s", float64(cmp.Or(offer.Shaded, offer.Bid))/1e6, offer.Currency, offer.ID)
	}
	return fmt.Sprintf("%s: in %s; %s", user, cmp.Or(strings.Join(segments, ", "), "no segment"), bid)
}

func setting(name, otherwise string) string { return cmp.Or(os.Getenv(name), otherwise) }

// Ends the program at an error.
func check(errs ...error) {
	if err := cmp.Or(errs...); err != nil {
		log.Fatal(err)
	}
}

// It keeps its connections; a bidder has one of it.
var serve http.Client

// Asks `aimpoint serve`: status, outcome and body. No answer in time is an error.
func ask(method, path string, body []byte) (int, string, []byte, error) {
	request, err := http.NewRequest(method, setting("SERVE", "http://127.0.0.1:9470")+path, bytes.NewReader(body))
	check(err)
	request.Header.Set("Authorization", "Bearer "+os.Getenv("SERVE_TOKEN"))
	response, err := serve.Do(request)
	if err != nil {
		return 0, "", nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header.Get("aimpoint-outcome"), answer, err
}

func lookup(user string) {
	status, _, body, err := ask("GET", "/v1/decisions/"+url.PathEscape(user), nil)
	check(err)
	switch status {
	case http.StatusOK:
		var decision Decision
		check(json.Unmarshal(body, &decision))
		fmt.Println(inWords(user, &decision))
	case http.StatusGone:
		fmt.Println(user + ": expired")
	case http.StatusNotFound:
		fmt.Println(inWords(user, nil))
	default: // Overloaded (429) or not permitted (401).
		log.Fatalf("%s: no answer (%d)", user, status)
	}
}

// Has a bid request enriched. Without an answer, the bidder bids on it as it is.
func enrich() {
	request, err := io.ReadAll(os.Stdin)
	check(err)
	status, outcome, body, err := ask("POST", "/openrtb2/enrich", request)
	if err == nil && status == http.StatusOK {
		request = body
	} else {
		outcome = "no answer"
	}
	fmt.Fprintln(os.Stderr, "outcome:", outcome)
	os.Stdout.Write(request)
}

// Reads the whole topic, then follows it. Every process needs all decisions, so it joins no group.
func follow(user string) {
	topic, ctx := setting("TOPIC", "decisions"), context.Background()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(strings.Split(setting("KAFKA", "localhost:9092"), ",")...),
		kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		// Only what was committed: each event has one decision. The ends of transactions tell how far it has come.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
	check(err)
	starts, err := kadm.NewClient(client).ListStartOffsets(ctx, topic)
	check(err, starts.Error())
	ends, err := kadm.NewClient(client).ListCommittedOffsets(ctx, topic)
	check(err, ends.Error())
	behind, latest := map[int32]int64{}, map[string]*Decision{}
	ends.Each(func(end kadm.ListedOffset) {
		if start, _ := starts.Lookup(topic, end.Partition); start.Offset < end.Offset {
			behind[end.Partition] = end.Offset
		}
	})
	for isNews := len(behind) == 0; ; {
		if isNews && len(behind) == 0 { // While it is behind, a later decision may follow.
			fmt.Println(inWords(user, latest[user]))
		}
		fetches := client.PollRecords(ctx, 1)
		isNews = false
		fetches.EachError(func(_ string, partition int32, err error) { // The client tries again by itself.
			log.Printf("read %s, partition %d: %v", topic, partition, err)
		})
		fetches.EachRecord(func(record *kgo.Record) {
			var decision *Decision
			if record.Attrs.IsControl() {
			} else if err := json.Unmarshal([]byte(cmp.Or(string(record.Value), "null")), &decision); err != nil {
				log.Printf("%s/%d offset %d: %v; this example needs decision.format = json", topic, record.Partition, record.Offset, err)
			} else {
				if latest[string(record.Key)] = decision; decision == nil { // The user was erased.
					delete(latest, string(record.Key))
				}
				isNews = string(record.Key) == user
			}
			if end, is := behind[record.Partition]; is && record.Offset+1 >= end {
				delete(behind, record.Partition)
				isNews = isNews || len(behind) == 0
			}
		})
	}
}

func main() {
	timeout, err := time.ParseDuration(setting("TIMEOUT_MS", "10") + "ms")
	check(err)
	serve.Timeout = timeout
	switch arguments := append(os.Args[1:], "", ""); {
	case arguments[0] == "lookup" && len(os.Args) == 3:
		lookup(arguments[1])
	case arguments[0] == "enrich":
		enrich()
	case arguments[0] == "follow" && len(os.Args) == 3:
		follow(arguments[1])
	default:
		log.Fatal("usage: bidder lookup USER | enrich | follow USER")
	}
}
