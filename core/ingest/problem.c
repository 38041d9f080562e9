#include "ingest/problem.h"

#include "base/json.h"

static const struct problem problems[PROBLEM_COUNT] = {
#define X(name, code, status, title) {status, {code, sizeof(code) - 1}, {title, sizeof(title) - 1}, {0}, {0}},
    PROBLEMS(X)
#undef X
};

struct problem problem_of(enum problem_id id, const char *detail)
{
    struct problem problem = problems[id];
    problem.detail = slice_of(detail);
    return problem;
}

const char *problem_status_title(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 409:
        return "Conflict";
    case 411:
        return "Length Required";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 417:
        return "Expectation Failed";
    case 422:
        return "Unprocessable Content";
    case 429:
        return "Too Many Requests";
    case 503:
        return "Service Unavailable";
    default:
        return status < 300 ? "OK" : status < 500 ? "Request Refused" : "Server Error";
    }
}

void problem_write(const struct problem *problem, struct buf *out)
{
    struct json_writer w = json_writer(out);
    json_object_open(&w);
    json_name(&w, "type");
    buf_add_text(out, "\"urn:waybill:problem:");
    buf_add_slice(out, problem->code);
    buf_add_text(out, "\"");
    w.need_comma = true;
    json_member_string(&w, "title", problem->title);
    json_member_int(&w, "status", problem->status);
    json_member_string(&w, "detail", problem->detail);
    json_member_string(&w, "code", problem->code);
    if (problem->field.len > 0)
        json_member_string(&w, "field", problem->field);
    json_object_close(&w);
    buf_add_char(out, '\n');
}
