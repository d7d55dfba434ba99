use tokio::runtime::Builder;

use super::*;

fn client(route: Route, request: &HttpRequest) -> Result<Answer, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Http::new(route, None).get(request))
}

dunlin_std::http_client_tests!(client);
