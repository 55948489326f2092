//! The calls that take a list part by part, for those who cannot hold all of it or show it page by page.

use super::{Answer, Client, ClientError, answer, calls::with_query, history::Pairs, request::Request};
use crate::{
    filter::Filter,
    headers,
    page::{Listed, Page, PageQuery},
    vm::Vm,
};
use waifud_model::name::VmName;

impl Client {
    /// A part of the list of what `T` is: templates, nodes, tokens, peers, VMs.
    ///
    /// # Errors
    /// As every call: see [`ClientError`]; and [`ClientError::Protocol`] if the answer does not read where it says how to go on.
    pub async fn page<T: Listed>(&self, query: &PageQuery<T::Cursor>) -> Result<Answer<Page<T>>, ClientError> {
        self.part(Pairs::default(), query).await
    }

    /// A part of the list of those VMs that match.
    ///
    /// # Errors
    /// As [`Client::page`].
    pub async fn vms_page(&self, filter: &Filter, query: &PageQuery<VmName>) -> Result<Answer<Page<Vm>>, ClientError> {
        let filter = Some(filter).filter(|filter| !filter.is_empty());
        self.part(Pairs::default().with("filter", filter), query).await
    }

    async fn part<T: Listed>(
        &self,
        pairs: Pairs,
        query: &PageQuery<T::Cursor>,
    ) -> Result<Answer<Page<T>>, ClientError> {
        let pairs = pairs.with("limit", query.limit).with("after", query.after.as_ref());
        let request = Request {
            answer_timeout: Some(self.inner.config.answer_timeout),
            ..Request::get(with_query(T::PATH, &pairs.0))
        };
        let (endpoint, response) = self.send(&request).await?;
        let next = match response.headers().get(headers::NEXT) {
            None => None,
            Some(value) => {
                let read = value.to_str().ok().and_then(|text| text.parse().ok());
                let what = || format!("its {} does not read: {value:?}", headers::NEXT);
                Some(read.ok_or_else(|| ClientError::Protocol { endpoint: endpoint.clone(), what: what() })?)
            }
        };
        let answer: Answer<Vec<T>> = answer::json(&endpoint, response).await?;
        Ok(answer.map(|items| Page { items, next }))
    }
}
