// One source of Standard Webhooks events, accepted into a Redis stream: what Waybill's ingest does for its demo source,
// as a small service in Go would do it, with net/http, encoding/json and go-redis.
package main

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"hash"
	"io"
	"log"
	"mime"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	source         = "demo"
	bodyLimit      = 1 << 20
	headersLimit   = 16384
	fieldLimit     = 256
	tolerance      = 300 // seconds
	redisTimeout   = 2 * time.Second
	redisPool      = 256
	receivedFormat = "2006-01-02T15:04:05.000Z"
)

type event struct {
	ID         string `json:"event_id"`
	Type       string `json:"type"`
	OccurredAt string `json:"occurred_at"`
	Data       *struct {
		TrackingNumber string `json:"tracking_number"`
	} `json:"data"`
}

type gateway struct {
	redis  *redis.Client
	stream string
	macs   sync.Pool // keyed hash.Hash
}

// sole gives the value of a header that is there exactly once.
func sole(header http.Header, name string) (string, bool) {
	values := header[name]
	if len(values) != 1 {
		return "", false
	}
	return values[0], true
}

func (g *gateway) mac(id, timestamp string, body []byte) []byte {
	mac := g.macs.Get().(hash.Hash)
	defer g.macs.Put(mac)
	mac.Reset()
	io.WriteString(mac, id)
	io.WriteString(mac, ".")
	io.WriteString(mac, timestamp)
	io.WriteString(mac, ".")
	mac.Write(body)
	return mac.Sum(make([]byte, 0, sha256.Size))
}

// isSigned also tells whether the signature is fresh.
func (g *gateway) isSigned(header http.Header, body []byte) (signed, fresh bool) {
	id, hasID := sole(header, "Webhook-Id")
	timestamp, hasTime := sole(header, "Webhook-Timestamp")
	signatures, hasSignature := sole(header, "Webhook-Signature")
	if !hasID || !hasTime || !hasSignature || id == "" || strings.Contains(id, ".") || len(timestamp) > 12 {
		return false, false
	}
	seconds, err := strconv.ParseUint(timestamp, 10, 62)
	if err != nil {
		return false, false
	}
	expected := g.mac(id, timestamp, body)
	for _, entry := range strings.Fields(signatures) {
		version, text, _ := strings.Cut(entry, ",")
		signature, err := base64.StdEncoding.DecodeString(text)
		if version == "v1" && err == nil && hmac.Equal(signature, expected) {
			age := time.Now().Unix() - int64(seconds)
			return true, age <= tolerance && -age <= tolerance
		}
	}
	return false, false
}

func isText(value string) bool {
	if value == "" || len(value) > fieldLimit {
		return false
	}
	for i := 0; i < len(value); i++ {
		if value[i] < 0x20 || value[i] == 0x7f {
			return false
		}
	}
	return true
}

// wrongField names the first field that is missing or wrong.
func wrongField(e *event) string {
	if !isText(e.ID) {
		return "event_id"
	}
	if !isText(e.Type) {
		return "type"
	}
	if _, err := time.Parse(time.RFC3339, e.OccurredAt); err != nil {
		return "occurred_at"
	}
	if e.Data == nil || !isText(e.Data.TrackingNumber) {
		return "data.tracking_number"
	}
	return ""
}

// headerLines are kept with the event, but for credentials.
func headerLines(header http.Header) string {
	var lines strings.Builder
	for name, values := range header {
		if name == "Authorization" || name == "Cookie" || name == "Proxy-Authorization" {
			continue
		}
		for _, value := range values {
			if lines.Len()+len(name)+len(value)+3 <= headersLimit {
				lines.WriteString(name)
				lines.WriteString(": ")
				lines.WriteString(value)
				lines.WriteByte('\n')
			}
		}
	}
	return lines.String()
}

func refuse(w http.ResponseWriter, status int, code, detail string) {
	body, _ := json.Marshal(map[string]any{"status": status, "code": code, "detail": detail})
	w.Header().Set("Content-Type", "application/problem+json")
	if status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", "2")
	}
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}

func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.ContentLength < 0 || r.ContentLength > bodyLimit {
		return io.ReadAll(http.MaxBytesReader(w, r.Body, bodyLimit))
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	return body, err
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	contentType, _ := sole(r.Header, "Content-Type")
	if media, _, err := mime.ParseMediaType(contentType); err != nil || media != "application/json" {
		refuse(w, http.StatusUnsupportedMediaType, "unsupported_media_type", "Content-Type must be application/json.")
		return
	}
	body, err := readBody(w, r)
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		refuse(w, http.StatusRequestEntityTooLarge, "too_large", "The body is larger than this service takes.")
		return
	} else if err != nil {
		return // the sender has gone
	}
	if signed, fresh := g.isSigned(r.Header, body); !signed || !fresh {
		refuse(w, http.StatusUnauthorized, "unauthorized", "The signature is wrong or old.")
		return
	}
	var e event
	if err := json.Unmarshal(body, &e); err != nil {
		refuse(w, http.StatusBadRequest, "invalid_json", err.Error())
		return
	}
	if field := wrongField(&e); field != "" {
		refuse(w, http.StatusUnprocessableEntity, "invalid_field", field)
		return
	}
	g.add(w, r, &e, body, contentType)
}

// add stores the event and answers: Redis has it on disk when it says so, with appendfsync always.
func (g *gateway) add(w http.ResponseWriter, r *http.Request, e *event, body []byte, contentType string) {
	var random [16]byte
	rand.Read(random[:])
	id, now := hex.EncodeToString(random[:]), time.Now()
	err := g.redis.XAdd(r.Context(), &redis.XAddArgs{Stream: g.stream, Values: []any{
		"source", source, "event_id", e.ID, "type", e.Type, "occurred_at", e.OccurredAt,
		"received_at", now.UnixMilli(), "ingest_id", id, "content_type", contentType,
		"headers", headerLines(r.Header), "body", body,
	}}).Err()
	if err != nil {
		log.Print("Redis: ", err)
		refuse(w, http.StatusServiceUnavailable, "queue_unavailable", "The event was not accepted; send it again.")
		return
	}
	answer, _ := json.Marshal(struct {
		Status     string `json:"status"`
		EventID    string `json:"event_id"`
		IngestID   string `json:"ingest_id"`
		ReceivedAt string `json:"received_at"`
	}{"accepted", e.ID, id, now.UTC().Format(receivedFormat)})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	w.Write(append(answer, '\n'))
}

func main() {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(os.Getenv("PEER_SECRET"), "whsec_"))
	if err != nil {
		log.Fatal("PEER_SECRET: ", err)
	}
	g := &gateway{stream: os.Getenv("PEER_STREAM"), redis: redis.NewClient(&redis.Options{
		Addr: net.JoinHostPort("127.0.0.1", os.Getenv("PEER_REDIS_PORT")), PoolSize: redisPool,
		ReadTimeout: redisTimeout, WriteTimeout: redisTimeout, MaxRetries: -1,
	})}
	g.macs.New = func() any { return hmac.New(sha256.New, key) }
	if err := g.redis.Ping(context.Background()).Err(); err != nil {
		log.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /v1/events/"+source, g)
	server := &http.Server{Addr: "127.0.0.1:" + os.Getenv("PEER_PORT"), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	log.Fatal(server.ListenAndServe())
}
