#include "policy/http_client.h"

#include <stdlib.h>

#include <curl/curl.h>
#include <pthread.h>

#include "base/buf.h"
#include "base/memory.h"

#define MAX_BODY_BYTES    (1024 * 1024)
#define MAX_HEADERS_BYTES (64 * 1024)

struct http_client {
    CURL *curl;
    struct buf headers, body;
    bool too_large;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready; /* written once, below curl_once */

static void curl_start(void)
{
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

struct http_client *http_client_new(struct error *err)
{
    pthread_once(&curl_once, curl_start);
    CURL *curl = curl_ready == CURLE_OK ? curl_easy_init() : NULL;
    if (curl == NULL) {
        error_set(err, "libcurl cannot start");
        return NULL;
    }
    struct http_client *client = memory_alloc(sizeof *client);
    client->curl = curl;
    return client;
}

void http_client_free(struct http_client *client)
{
    if (client == NULL)
        return;
    curl_easy_cleanup(client->curl);
    buf_free(&client->headers);
    buf_free(&client->body);
    free(client);
}

/* Taking less than was given makes libcurl give up. */
static size_t take(struct http_client *client, struct buf *into, const char *data, size_t n, size_t max)
{
    if (n > max - into->len) {
        client->too_large = true;
        return 0;
    }
    buf_add(into, data, n);
    return n;
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct http_client *client = arg;
    return take(client, &client->body, data, size * n, MAX_BODY_BYTES);
}

/* One line a call. A new status line (after 100 Continue) begins anew. */
static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    struct http_client *client = arg;
    if (size * n >= 5 && memcmp(data, "HTTP/", 5) == 0) {
        buf_clear(&client->headers);
        return size * n;
    }
    return take(client, &client->headers, data, size * n, MAX_HEADERS_BYTES);
}

static struct curl_slist *make_headers(const struct policy_http_request *request)
{
    struct curl_slist *list = NULL;
    for (size_t i = 0; i < request->n_headers; i++) {
        struct curl_slist *longer = curl_slist_append(list, request->headers[i]);
        if (longer == NULL)
            abort(); /* out of memory, as in memory_alloc */
        list = longer;
    }
    return list;
}

static void set_options(struct http_client *client, const struct policy_http_request *request,
                        struct curl_slist *headers, char *message)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl); /* keeps the connections */
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "waybill/" WAYBILL_VERSION);
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, client);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, client);
    bool head = strcmp(request->method, "HEAD") == 0;
    if (request->body.len > 0 || strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.len > 0 ? request->body.base : "");
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    } else if (head) {
        curl_easy_setopt(curl, CURLOPT_NOBODY, 1L);
    }
    if (!head)
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request->method);
}

bool http_client_perform(void *arg, const struct policy_http_request *request, struct arena *arena,
                         struct policy_http_response *response, struct error *err)
{
    struct http_client *client = arg;
    char message[CURL_ERROR_SIZE] = "";
    buf_clear(&client->headers);
    buf_clear(&client->body);
    client->too_large = false;
    struct curl_slist *headers = make_headers(request);
    set_options(client, request, headers, message);
    CURLcode code = curl_easy_perform(client->curl);
    long status = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_reset(client->curl); /* no pointers into this call stay behind */
    curl_slist_free_all(headers);
    if (client->too_large) {
        error_set(err, "the response is larger than %d bytes", MAX_BODY_BYTES);
        return false;
    }
    if (code != CURLE_OK) {
        error_set(err, "%s", message[0] != '\0' ? message : curl_easy_strerror(code));
        return false;
    }
    *response = (struct policy_http_response){(int)status, arena_copy(arena, client->headers.data, client->headers.len),
                                              arena_copy(arena, client->body.data, client->body.len)};
    return true;
}
