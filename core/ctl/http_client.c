#include "ctl/http_client.h"

#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"

#define ANSWER_MAX_BYTES (size_t)(8 * 1024 * 1024)

struct ctl_http {
    CURL *curl;
    const char *ca_file;
};

struct ctl_http *ctl_http_new(const char *ca_file)
{
    struct ctl_http *client = memory_alloc(sizeof *client);
    client->ca_file = ca_file;
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK || (client->curl = curl_easy_init()) == NULL)
        abort(); /* only without memory */
    return client;
}

void ctl_http_free(struct ctl_http *client)
{
    curl_easy_cleanup(client->curl);
    curl_global_cleanup();
    free(client);
}

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct buf *body = arg;
    if (body->len + size * n > ANSWER_MAX_BYTES)
        return 0; /* ends the transfer with CURLE_WRITE_ERROR */
    buf_add(body, data, size * n);
    return size * n;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    static const char name[] = "retry-after:";
    struct http_response *response = arg;
    size_t length = size * n;
    char value[24];
    if (length > sizeof name && length < sizeof name + sizeof value && strncasecmp(data, name, sizeof name - 1) == 0) {
        memcpy(value, data + sizeof name - 1, length - (sizeof name - 1));
        value[length - (sizeof name - 1)] = '\0';
        response->retry_after_s = strtoll(value, NULL, 10);
    }
    return length;
}

bool http_is_loopback(const char *url)
{
    char *host = NULL;
    CURLU *parsed = curl_url();
    bool loopback = false;
    if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
        curl_url_get(parsed, CURLUPART_HOST, &host, 0) == CURLUE_OK)
        loopback = strncmp(host, "127.", 4) == 0 || strcmp(host, "localhost") == 0 || strcmp(host, "[::1]") == 0;
    curl_free(host);
    curl_url_cleanup(parsed);
    return loopback;
}

static struct curl_slist *header_list(const struct http_request *request)
{
    /* No "Expect: 100-continue": it costs a round trip and says nothing that the answer does not say. */
    struct curl_slist *list = curl_slist_append(NULL, "Expect:");
    struct buf line = {0};
    for (size_t i = 0; i < request->n_headers; i++) {
        buf_clear(&line);
        buf_printf(&line, "%s: %.*s", request->headers[i].name, SLICE_ARG(request->headers[i].value));
        struct curl_slist *longer = curl_slist_append(list, line.data);
        if (longer == NULL)
            abort();
        list = longer;
    }
    buf_free(&line);
    return list;
}

static void set_up(CURL *curl, const struct http_request *request, struct http_response *response,
                   struct curl_slist *headers)
{
    curl_easy_reset(curl); /* keeps the open connections */
    curl_easy_setopt(curl, CURLOPT_URL, request->url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)request->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_USERAGENT, "waybillctl/" WAYBILL_VERSION);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &response->body);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, response);
    if (http_is_loopback(request->url))
        curl_easy_setopt(curl, CURLOPT_PROXY, "");
    if (strcmp(request->method, "POST") == 0) {
        curl_easy_setopt(curl, CURLOPT_POST, 1L);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request->body.base == NULL ? "" : request->body.base);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->body.len);
    }
}

bool ctl_http_send(struct ctl_http *client, const struct http_request *request, struct http_response *response,
                   struct error *err)
{
    *response = (struct http_response){.retry_after_s = -1};
    struct curl_slist *headers = header_list(request);
    char detail[CURL_ERROR_SIZE] = "";
    set_up(client->curl, request, response, headers);
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, detail);
    if (client->ca_file != NULL)
        curl_easy_setopt(client->curl, CURLOPT_CAINFO, client->ca_file);
    CURLcode code = curl_easy_perform(client->curl);
    curl_easy_setopt(client->curl, CURLOPT_ERRORBUFFER, NULL);
    curl_slist_free_all(headers);
    if (code != CURLE_OK) {
        error_set(err, "no answer from %s: %s", request->url, detail[0] != '\0' ? detail : curl_easy_strerror(code));
        return false;
    }
    long status = 0;
    curl_off_t elapsed_us = 0;
    curl_easy_getinfo(client->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(client->curl, CURLINFO_TOTAL_TIME_T, &elapsed_us);
    response->status = (int)status;
    response->elapsed_us = elapsed_us;
    return true;
}
