use super::*;

fn client(route: Route, request: &HttpRequest) -> Result<Answer, Failure> {
    Http::new(route, None).get(request)
}

dunlin_std::http_client_tests!(client);
